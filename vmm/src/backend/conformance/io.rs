//! Ports and memory-mapped I/O, from CPL 0 and CPL 3.

use super::guest::{Access, Guest, NOTHING, STOP_CODE};

fn code(parts: &[&[u8]]) -> Vec<u8> {
    let mut code = parts.concat();
    code.extend(STOP_CODE);
    code
}

/// Runs the same code at both privilege levels.
fn at_both_levels(code: &[u8], check: impl Fn(&mut Guest)) {
    for make in [Guest::new, Guest::at_cpl3] {
        if let Some(mut guest) = make(code) {
            check(&mut guest);
        }
    }
}

const PORT_CODE: &[&[u8]] = &[
    &[0xBA, 0x00, 0x05, 0, 0],       // mov edx, 0x500
    &[0xB8, 0x44, 0x33, 0x22, 0x11], // mov eax, 0x11223344
    &[0xEE],                         // out dx, al
    &[0x66, 0xEF],                   // out dx, ax
    &[0xEF],                         // out dx, eax
];

#[test]
fn port_writes_of_every_size_arrive() {
    at_both_levels(&code(PORT_CODE), |guest| {
        let out = |bytes: &[u8]| Access::Out(0x500, bytes.to_vec());
        assert_eq!(guest.run_to_stop(), [out(&[0x44]), out(&[0x44, 0x33]), out(&[0x44, 0x33, 0x22, 0x11])]);
    });
}

#[test]
fn port_reads_give_the_device_s_answer_and_all_ones_without_one() {
    let code = code(&[
        &[0x31, 0xC0],             // xor eax, eax
        &[0xBA, 0x04, 0x06, 0, 0], // mov edx, 0x604
        &[0x66, 0xED],             // in ax, dx
        &[0x89, 0xC3],             // mov ebx, eax
        &[0xBA, 0x00, 0x05, 0, 0], // mov edx, 0x500
        &[0xED],                   // in eax, dx
        &[0x89, 0xC1],             // mov ecx, eax
        &[0x31, 0xC0],             // xor eax, eax
        &[0xEC],                   // in al, dx
    ]);
    at_both_levels(&code, |guest| {
        assert_eq!(guest.run_to_stop(), [Access::In(0x604, 2), Access::In(0x500, 4), Access::In(0x500, 1)]);
        let r = guest.vcpu.state().unwrap().registers;
        assert_eq!((r.rbx, r.rcx, r.rax), (0x604, 0xFFFF_FFFF, 0xFF));
    });
}

#[test]
fn string_writes_are_one_callback_an_element() {
    let code = code(&[
        &[0xBA, 0x00, 0x05, 0, 0], // mov edx, 0x500
        &[0xBE, 0x00, 0x90, 0, 0], // mov esi, 0x9000
        &[0xB9, 0x03, 0, 0, 0],    // mov ecx, 3
        &[0xF3, 0x66, 0x6F],       // rep outsw
    ]);
    at_both_levels(&code, |guest| {
        guest.write(0x9000, b"bullas");
        let out = |bytes: &[u8]| Access::Out(0x500, bytes.to_vec());
        assert_eq!(guest.run_to_stop(), [out(b"bu"), out(b"ll"), out(b"as")]);
        assert_eq!(guest.vcpu.state().unwrap().registers.rcx, 0);
    });
}

#[test]
fn string_reads_fill_memory_element_by_element() {
    let code = code(&[
        &[0xBA, 0x04, 0x06, 0, 0],                   // mov edx, 0x604
        &[0xBF, 0x00, 0x90, 0, 0],                   // mov edi, 0x9000
        &[0xB9, 0x02, 0, 0, 0],                      // mov ecx, 2
        &[0xF3, 0x6D],                               // rep insd
        &[0x48, 0x8B, 0x04, 0x25, 0x00, 0x90, 0, 0], // mov rax, [0x9000]
        &[0x48, 0x89, 0xC3],                         // mov rbx, rax
    ]);
    at_both_levels(&code, |guest| {
        guest.run_to_stop();
        assert_eq!(guest.vcpu.state().unwrap().registers.rbx, 0x0000_0604_0000_0604);
    });
}

#[test]
fn memory_accesses_of_every_size_arrive_and_unanswered_reads_are_all_ones() {
    let code = code(&[
        &[0xBB, 0x00, 0x00, 0x00, 0xE0],                               // mov ebx, 0xE0000000
        &[0x48, 0xB8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11], // mov rax, 0x1122334455667788
        &[0x88, 0x03],                                                 // mov [rbx], al
        &[0x66, 0x89, 0x43, 0x08],                                     // mov [rbx+8], ax
        &[0x89, 0x43, 0x10],                                           // mov [rbx+16], eax
        &[0x48, 0x89, 0x43, 0x18],                                     // mov [rbx+24], rax
        &[0x31, 0xC9],                                                 // xor ecx, ecx
        &[0x8A, 0x0B],                                                 // mov cl, [rbx]
        &[0x31, 0xF6],                                                 // xor esi, esi
        &[0x66, 0x8B, 0x73, 0x08],                                     // mov si, [rbx+8]
        &[0x8B, 0x7B, 0x10],                                           // mov edi, [rbx+16]
        &[0x4C, 0x8B, 0x43, 0x18],                                     // mov r8, [rbx+24]
    ]);
    at_both_levels(&code, |guest| {
        let bytes = 0x1122_3344_5566_7788u64.to_le_bytes();
        let write = |offset, len| Access::Write(NOTHING + offset, bytes.iter().copied().take(len).collect());
        let read = |offset, len| Access::Read(NOTHING + offset, len);
        let expected =
            [write(0, 1), write(8, 2), write(16, 4), write(24, 8), read(0, 1), read(8, 2), read(16, 4), read(24, 8)];
        assert_eq!(guest.run_to_stop(), expected);
        let r = guest.vcpu.state().unwrap().registers;
        assert_eq!((r.rcx, r.rsi, r.rdi, r.r8), (0xFF, 0xFFFF, 0xFFFF_FFFF, u64::MAX));
    });
}
