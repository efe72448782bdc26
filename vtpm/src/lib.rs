//! The bulla vTPM: a TPM 2.0 engine, and the sandboxed program bulla-vtpm
