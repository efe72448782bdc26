//! Runtime of the freestanding guest programs
