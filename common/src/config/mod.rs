//! Configuration: as written, layer over layer, and as resolved.

pub mod arch;
pub mod semantic;
