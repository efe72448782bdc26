//! What travels between APICs, and from devices to them (SDM vol. 3A, §11.6 and §11.11).

/// What a message does to the processor that accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Interrupt with the message's vector, for every processor addressed.
    Fixed,
    /// The same, for the one processor of lowest priority among those addressed.
    LowestPriority,
    /// System management interrupt.
    Smi,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up: the vector is the page number where a processor that waits begins.
    StartUp,
    /// Interrupt whose vector an 8259 tells.
    ExtInt,
    /// 011b: no meaning.
    Reserved,
}

impl Delivery {
    /// From the three bits that ICR, LVT and MSI have in common.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            3 => Self::Reserved,
            4 => Self::Nmi,
            5 => Self::Init,
            6 => Self::StartUp,
            _ => Self::ExtInt,
        }
    }
}

/// Who shall take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The processor with this APIC ID.
    Physical(u32),
    /// The processors whose logical ID matches.
    Logical(u32),
    /// Every processor.
    All,
    /// Every processor but the one with this APIC ID, which sent it.
    AllBut(u32),
}

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who shall take it.
    pub destination: Destination,
    /// What it does.
    pub delivery: Delivery,
    /// Vector, where `delivery` has one.
    pub vector: u8,
    /// Level-triggered: its end will be told to the I/O APICs.
    pub level: bool,
}

/// A message-signalled interrupt as a device writes it (SDM vol. 3A, §11.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    /// Where: 0xFEEx_xxxx.
    pub address: u64,
    /// What.
    pub data: u32,
}

impl Msi {
    /// What it says; `None` for an address at which no APIC listens.
    ///
    /// The destination has 8 bits, and 0xFF is everybody. A level-triggered message that deasserts says nothing.
    #[must_use]
    pub const fn message(self) -> Option<Message> {
        const LOGICAL: u64 = 1 << 2;
        const ASSERT: u32 = 1 << 14;
        const LEVEL: u32 = 1 << 15;
        if self.address >> 20 != 0xFEE || self.data & (LEVEL | ASSERT) == LEVEL {
            return None;
        }
        let to = (self.address >> 12) as u32 & 0xFF;
        let destination = match (to, self.address & LOGICAL != 0) {
            (0xFF, _) => Destination::All,
            (to, true) => Destination::Logical(to),
            (to, false) => Destination::Physical(to),
        };
        let delivery = Delivery::from_bits(self.data >> 8);
        Some(Message { destination, delivery, vector: self.data as u8, level: self.data & LEVEL != 0 })
    }
}

/// What a processor that accepts a message has to do beyond taking an interrupt in due course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Non-maskable interrupt.
    Nmi,
    /// System management interrupt.
    Smi,
    /// INIT (SDM vol. 3A, §10.1).
    Init,
    /// Start-up at this page number, if it waits for one.
    StartUp(u8),
}

/// What the write of a register means for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// The level-triggered interrupt with this vector is finished: I/O APICs have to know.
    EndOfInterrupt(u8),
    /// To be delivered ([`super::deliver`]) to all APICs, that of the sender included.
    Send(Message),
}

/// A destination in an xAPIC register or a 32-bit one.
pub(super) const fn destination(to: u32, logical: bool, everybody: u32) -> Destination {
    if to == everybody {
        Destination::All
    } else if logical {
        Destination::Logical(to)
    } else {
        Destination::Physical(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_msi_says_who_what_and_how() {
        let msi = |address, data| Msi { address, data }.message();
        let fixed =
            Message { destination: Destination::Physical(3), delivery: Delivery::Fixed, vector: 0x41, level: false };
        assert_eq!(msi(0xFEE0_3000, 0x41), Some(fixed));
        let level = Message { destination: Destination::Logical(3), level: true, ..fixed };
        assert_eq!(msi(0xFEE0_3004, 0xC041), Some(level));
        assert_eq!(msi(0xFEE0_3004, 0x8041), None, "deasserted");
        let all = Message { destination: Destination::All, delivery: Delivery::Nmi, ..fixed };
        assert_eq!(msi(0xFEEF_F000, 0x441), Some(all));
        assert_eq!(msi(0xFEF0_3000, 0x41), None);
        assert_eq!(msi(0x1_FEE0_3000, 0x41), None);
    }

    #[test]
    fn everybody_is_a_number_of_its_own_in_each_width() {
        assert_eq!(destination(0xFF, false, 0xFF), Destination::All);
        assert_eq!(destination(0xFF, true, u32::MAX), Destination::Logical(0xFF));
        assert_eq!(destination(u32::MAX, true, u32::MAX), Destination::All);
    }
}
