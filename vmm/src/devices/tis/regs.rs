//! Registers of the FIFO interface (PTP 1.05, section 6.5.2).

pub use crate::devices::tpm::{LOCALITIES, LOCALITY_LEN};

/// TPM_ACCESS_x, one byte.
pub const ACCESS: u16 = 0x00;
/// TPM_INT_ENABLE_x.
pub const INT_ENABLE: u16 = 0x08;
/// TPM_INT_VECTOR_x, one byte.
pub const INT_VECTOR: u16 = 0x0C;
/// TPM_INT_STATUS_x.
pub const INT_STATUS: u16 = 0x10;
/// TPM_INTF_CAPABILITY_x.
pub const INTF_CAPABILITY: u16 = 0x14;
/// TPM_STS_x.
pub const STS: u16 = 0x18;
/// TPM_DATA_FIFO_x, four bytes: the same FIFO behind each.
pub const DATA_FIFO: u16 = 0x24;
/// TPM_INTERFACE_ID_x.
pub const INTERFACE_ID: u16 = 0x30;
/// TPM_XDATA_FIFO_x: the same FIFO for accesses of up to 64 bytes.
pub const XDATA_FIFO: u16 = 0x80;
/// First byte behind it.
pub const XDATA_FIFO_END: u16 = 0xC0;
/// TPM_DID_VID_x.
pub const DID_VID: u16 = 0xF00;
/// TPM_RID_x, one byte.
pub const RID: u16 = 0xF04;

/// TPM_HASH_END, in locality 4 alone, where it and the next two take the place of TPM_DATA_FIFO.
pub const HASH_END: u16 = 0x20;
/// TPM_HASH_DATA, four bytes.
pub const HASH_DATA: u16 = 0x24;
/// TPM_HASH_START.
pub const HASH_START: u16 = 0x28;

/// ACCESS: no dynamic launch has happened (tpmEstablishment is active low).
pub const ACCESS_NOT_ESTABLISHED: u8 = 1 << 0;
/// ACCESS: read, this locality waits for the TPM; written, it wants it.
pub const ACCESS_REQUEST_USE: u8 = 1 << 1;
/// ACCESS: another locality waits.
pub const ACCESS_PENDING_REQUEST: u8 = 1 << 2;
/// ACCESS: written, take the TPM from a lower locality.
pub const ACCESS_SEIZE: u8 = 1 << 3;
/// ACCESS: read, the TPM was taken away; written, forget that.
pub const ACCESS_BEEN_SEIZED: u8 = 1 << 4;
/// ACCESS: read, this locality has the TPM; written, give it up.
pub const ACCESS_ACTIVE: u8 = 1 << 5;
/// ACCESS: all other bits are valid.
pub const ACCESS_VALID: u8 = 1 << 7;

/// Interrupts, in INT_ENABLE and INT_STATUS: a response is there.
pub const INT_DATA_AVAIL: u32 = 1 << 0;
/// Interrupts: STS is valid.
pub const INT_STS_VALID: u32 = 1 << 1;
/// Interrupts: a locality got the TPM.
pub const INT_LOCALITY_CHANGE: u32 = 1 << 2;
/// Interrupts: the TPM is ready for a command.
pub const INT_COMMAND_READY: u32 = 1 << 7;
/// All of them.
pub const INT_ALL: u32 = INT_DATA_AVAIL | INT_STS_VALID | INT_LOCALITY_CHANGE | INT_COMMAND_READY;
/// INT_ENABLE: shape of the signal. It is kept and has no meaning here: the line of a virtual machine has none.
pub const INT_TYPE_POLARITY: u32 = 0b11 << 3;
/// INT_ENABLE: any interrupts at all.
pub const INT_GLOBAL: u32 = 1 << 31;

/// What INTF_CAPABILITY reads: FIFO of PTP for TPM 2.0 (version 3), transfers of up to 64 bytes, a burst count that
/// changes, all four interrupts, by level.
pub const INTF_CAPABILITY_VALUE: u32 = 3 << 28 | 3 << 9 | 1 << 4 | 1 << 3 | INT_ALL;

/// STS: written, repeat the response.
pub const STS_RESPONSE_RETRY: u32 = 1 << 1;
/// STS: all self-tests are done.
pub const STS_SELF_TEST_DONE: u32 = 1 << 2;
/// STS: more of the command is to come.
pub const STS_EXPECT: u32 = 1 << 3;
/// STS: more of the response is to be read.
pub const STS_DATA_AVAIL: u32 = 1 << 4;
/// STS: written, execute the command.
pub const STS_GO: u32 = 1 << 5;
/// STS: read, ready for a command; written, become so.
pub const STS_COMMAND_READY: u32 = 1 << 6;
/// STS: [`STS_DATA_AVAIL`] and [`STS_EXPECT`] are valid.
pub const STS_VALID: u32 = 1 << 7;
/// STS: shift of the burst count (16 bits).
pub const STS_BURST_SHIFT: u32 = 8;
/// STS: written, cancel the command.
pub const STS_CANCEL: u32 = 1 << 24;
/// STS: written, reset the mark of a dynamic launch.
pub const STS_RESET_ESTABLISHMENT: u32 = 1 << 25;
/// STS: TPM 2.0.
pub const STS_FAMILY_2: u32 = 1 << 26;

/// What INTERFACE_ID reads: FIFO (type 0, version 0), five localities (bit 8), transfers of up to 64 bytes (bits 11–12), FIFO
/// supported (bit 13) and the selection, which is FIFO (0), locked (bit 19). No CRB.
pub const INTERFACE_ID_VALUE: u32 = 1 << 8 | 3 << 11 | 1 << 13 | 1 << 19;
/// What DID_VID reads: no vendor ID has been assigned to us, so 0; device 1, since some drivers take a whole 0 for nothing there.
pub const DID_VID_VALUE: u32 = 1 << 16;
/// What RID reads.
pub const RID_VALUE: u8 = 1;
