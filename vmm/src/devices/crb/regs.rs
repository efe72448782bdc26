//! Registers of the CRB interface (PTP 1.05, table "CRB interface: locality-based registers").

pub use crate::devices::tpm::{LOCALITIES, LOCALITY_LEN};

/// TPM_LOC_STATE_x.
pub const LOC_STATE: u16 = 0x00;
/// TPM_LOC_CTRL_x.
pub const LOC_CTRL: u16 = 0x08;
/// TPM_LOC_STS_x.
pub const LOC_STS: u16 = 0x0C;
/// TPM_CRB_INTF_ID_x, low half.
pub const INTF_ID: u16 = 0x30;
/// TPM_CRB_INTF_ID_x, high half: vendor and device.
pub const INTF_ID_HIGH: u16 = 0x34;
/// TPM_CRB_CTRL_EXT_x.
pub const CTRL_EXT: u16 = 0x38;
/// TPM_CRB_CTRL_EXT_x, high half.
pub const CTRL_EXT_HIGH: u16 = 0x3C;
/// TPM_CRB_CTRL_REQ_x; the control area of the ACPI TPM2 table begins here.
pub const CTRL_REQ: u16 = 0x40;
/// TPM_CRB_CTRL_STS_x.
pub const CTRL_STS: u16 = 0x44;
/// TPM_CRB_CTRL_CANCEL_x.
pub const CTRL_CANCEL: u16 = 0x48;
/// TPM_CRB_CTRL_START_x.
pub const CTRL_START: u16 = 0x4C;
/// TPM_CRB_INT_ENABLE_x.
pub const INT_ENABLE: u16 = 0x50;
/// TPM_CRB_INT_STS_x.
pub const INT_STS: u16 = 0x54;
/// TPM_CRB_CTRL_CMD_SIZE_x.
pub const CMD_SIZE: u16 = 0x58;
/// TPM_CRB_CTRL_CMD_LADDR_x.
pub const CMD_LADDR: u16 = 0x5C;
/// TPM_CRB_CTRL_CMD_HADDR_x.
pub const CMD_HADDR: u16 = 0x60;
/// TPM_CRB_CTRL_RSP_SIZE_x.
pub const RSP_SIZE: u16 = 0x64;
/// TPM_CRB_CTRL_RSP_ADDR_x.
pub const RSP_LADDR: u16 = 0x68;
/// TPM_CRB_CTRL_RSP_ADDR_x, high half.
pub const RSP_HADDR: u16 = 0x6C;
/// TPM_CRB_DATA_BUFFER_x.
pub const DATA_BUFFER: u16 = 0x80;
/// Bytes of the data buffer: the rest of the locality.
pub const DATA_BUFFER_LEN: usize = 0xF80;

/// LOC_STATE: tpmEstablished, 1 while no dynamic launch has happened (the bit is active low, as in the TIS).
pub const LOC_STATE_NOT_ESTABLISHED: u32 = 1 << 0;
/// LOC_STATE: a locality is active.
pub const LOC_STATE_ASSIGNED: u32 = 1 << 1;
/// LOC_STATE: shift of the number of the active locality (3 bits).
pub const LOC_STATE_ACTIVE_SHIFT: u32 = 2;
/// LOC_STATE: all other bits are valid.
pub const LOC_STATE_VALID: u32 = 1 << 7;

/// LOC_CTRL: ask for the TPM.
pub const LOC_CTRL_REQUEST: u32 = 1 << 0;
/// LOC_CTRL: give it up.
pub const LOC_CTRL_RELINQUISH: u32 = 1 << 1;
/// LOC_CTRL: take it from a lower locality.
pub const LOC_CTRL_SEIZE: u32 = 1 << 2;
/// LOC_CTRL: reset the mark of a dynamic launch.
pub const LOC_CTRL_RESET_ESTABLISHMENT: u32 = 1 << 3;

/// LOC_STS: this locality has the TPM.
pub const LOC_STS_GRANTED: u32 = 1 << 0;
/// LOC_STS: a higher locality took it away.
pub const LOC_STS_SEIZED: u32 = 1 << 1;

/// CTRL_REQ: Idle → Ready.
pub const REQ_CMD_READY: u32 = 1 << 0;
/// CTRL_REQ: → Idle.
pub const REQ_GO_IDLE: u32 = 1 << 1;

/// CTRL_STS: the last command was not carried out.
pub const STS_ERROR: u32 = 1 << 0;
/// CTRL_STS: Idle.
pub const STS_IDLE: u32 = 1 << 1;

/// CTRL_CANCEL and CTRL_START have one bit each.
pub const CANCEL: u32 = 1 << 0;
/// See [`CANCEL`].
pub const START: u32 = 1 << 0;

/// What INTF_ID reads: the CRB interface (type 1, version 1), five localities (bit 8), transfers of up to 64 bytes
/// (bits 11–12), CRB supported (bit 14), CRB selected (bit 17) and locked (bit 19). No FIFO, no idle bypass.
pub const INTF_ID_VALUE: u32 = 1 | 1 << 4 | 1 << 8 | 3 << 11 | 1 << 14 | 1 << 17 | 1 << 19;
/// What the high half reads: no vendor ID has been assigned to us, so 0.
pub const INTF_ID_HIGH_VALUE: u32 = 0;
