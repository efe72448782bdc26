//! SSE to SSE4.2, AES, PCLMULQDQ and SHA as functions of 128-bit values.
