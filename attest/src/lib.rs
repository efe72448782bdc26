//! Evidence, event log, appraisal, and the program bulla-attest
