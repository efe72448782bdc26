//! The bundled guest kernel
