//! One 8259A.

use super::state::ChipState;

/// The input on which a spurious interrupt is reported.
const SPURIOUS: u8 = 7;

/// One chip. Inputs are numbers 0–7.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chip {
    // Configuration.
    /// Inputs that may be level-triggered (ELCR bits that can be set).
    pub(super) elcr_mask: u8,
    /// Inputs that lead to another chip.
    cascade: u8,
    // Volatile state.
    pub(super) state: ChipState,
}

impl Chip {
    pub(super) fn new(elcr_mask: u8, cascade: u8) -> Self {
        Self { elcr_mask, cascade, state: ChipState::default() }
    }

    pub(super) fn set_input(&mut self, input: u8, high: bool) {
        let s = &mut self.state;
        let bit = 1_u8 << (input & 7);
        if s.elcr & bit != 0 {
            // Level-triggered: the request follows the line.
            s.irr = if high { s.irr | bit } else { s.irr & !bit };
        } else if high && s.levels & bit == 0 {
            // Edge-triggered: the request stays until it is acknowledged.
            s.irr |= bit;
        }
        s.levels = if high { s.levels | bit } else { s.levels & !bit };
    }

    /// Rank of the highest-priority input in `set`: 0 is the highest priority.
    fn rank(&self, set: u8) -> Option<u8> {
        (0..8).find(|rank| set >> self.input_at(*rank) & 1 != 0)
    }

    /// The input with priority `rank`.
    const fn input_at(&self, rank: u8) -> u8 {
        (self.state.lowest_priority.wrapping_add(1).wrapping_add(rank)) & 7
    }

    /// The input that the chip requests service for now.
    pub(super) fn pending(&self) -> Option<u8> {
        let s = &self.state;
        let rank = self.rank(s.irr & !s.imr)?;
        let mut in_service = s.isr;
        if s.special_mask {
            in_service &= !s.imr;
        }
        if s.special_fully_nested {
            // A slave in service does not hold back other requests of that slave.
            in_service &= !self.cascade;
        }
        match self.rank(in_service) {
            Some(current) if current <= rank => None,
            _ => Some(self.input_at(rank)),
        }
    }

    /// First INTA pulse: the input is in service from here on.
    fn begin(&mut self, input: u8) {
        let bit = 1_u8 << (input & 7);
        if self.state.elcr & bit == 0 {
            self.state.irr &= !bit;
        }
        if !self.state.auto_eoi {
            self.state.isr |= bit;
        } else if self.state.rotate_on_auto_eoi {
            self.state.lowest_priority = input & 7;
        }
    }

    /// Acknowledges the pending request; a request that has gone away in between is a spurious one on input 7.
    pub(super) fn acknowledge(&mut self) -> u8 {
        match self.pending() {
            Some(input) => {
                self.begin(input);
                input
            }
            None => SPURIOUS,
        }
    }

    /// The vector of `input`.
    pub(super) const fn vector(&self, input: u8) -> u8 {
        self.state.vector_base | (input & 7)
    }

    /// Ends the interrupt on `input`, or the one with the highest priority in service.
    fn end_of_interrupt(&mut self, input: Option<u8>, rotate: bool) {
        let in_service = if self.state.special_mask { self.state.isr & !self.state.imr } else { self.state.isr };
        let input = input.or_else(|| self.rank(in_service).map(|rank| self.input_at(rank)));
        if let Some(input) = input {
            self.state.isr &= !(1 << (input & 7));
            if rotate {
                self.state.lowest_priority = input & 7;
            }
        }
    }

    pub(super) fn read(&mut self, data_port: bool) -> u8 {
        if std::mem::take(&mut self.state.poll) {
            // Poll command: bit 7 says whether there was a request; the read acknowledges it.
            return match self.pending() {
                Some(input) => {
                    self.begin(input);
                    0x80 | input
                }
                None => 0,
            };
        }
        match (data_port, self.state.read_isr) {
            (true, _) => self.state.imr,
            (false, true) => self.state.isr,
            (false, false) => self.state.irr,
        }
    }

    pub(super) fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            self.initialise(value);
        } else if value & 0x08 != 0 {
            self.ocw3(value);
        } else {
            self.ocw2(value);
        }
    }

    /// ICW1: back to the state after power-on, except for what belongs to the lines.
    fn initialise(&mut self, value: u8) {
        let ChipState { levels, elcr, .. } = self.state;
        self.state = ChipState {
            levels,
            elcr,
            // Level-triggered requests follow their lines; edges start anew.
            irr: levels & elcr,
            next_icw: 2,
            icw4_needed: value & 1 != 0,
            ..ChipState::default()
        };
    }

    fn ocw2(&mut self, value: u8) {
        let input = value & 7;
        match value >> 5 {
            0 => self.state.rotate_on_auto_eoi = false,
            1 => self.end_of_interrupt(None, false),
            3 => self.end_of_interrupt(Some(input), false),
            4 => self.state.rotate_on_auto_eoi = true,
            5 => self.end_of_interrupt(None, true),
            6 => self.state.lowest_priority = input,
            7 => self.end_of_interrupt(Some(input), true),
            _ => {}
        }
    }

    fn ocw3(&mut self, value: u8) {
        if value & 0x04 != 0 {
            self.state.poll = true;
        }
        if value & 0x02 != 0 {
            self.state.read_isr = value & 1 != 0;
        }
        if value & 0x40 != 0 {
            self.state.special_mask = value & 0x20 != 0;
        }
    }

    pub(super) fn write_data(&mut self, value: u8) {
        match self.state.next_icw {
            2 => {
                self.state.vector_base = value & 0xF8;
                self.state.next_icw = 3;
            }
            // The cascade is wired as on every PC, whatever ICW3 says.
            3 => self.state.next_icw = if self.state.icw4_needed { 4 } else { 0 },
            4 => {
                self.state.special_fully_nested = value & 0x10 != 0;
                self.state.auto_eoi = value & 0x02 != 0;
                self.state.next_icw = 0;
            }
            _ => self.state.imr = value,
        }
    }

    pub(super) fn write_elcr(&mut self, value: u8) {
        let s = &mut self.state;
        s.elcr = value & self.elcr_mask;
        s.irr = s.irr & !s.elcr | s.levels & s.elcr;
    }
}
