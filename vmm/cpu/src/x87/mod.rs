//! The x87 floating-point unit: 80-bit arithmetic and its register stack.
