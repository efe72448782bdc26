//! Machines with firmware of a few instructions and a vTPM that only listens.

mod fixture;
mod run;
mod start;
