//! The core against a played world.
//!
//! | file | tests |
//! |--|--|
//! | `support` | a bus with compare-and-swap, and the other hands |
//! | `way` | taking, renewing, checkpoints, the result |
//! | `faults` | bad ends, lost slots, restart, shutdown |
//! | `random` | any order of facts |

mod faults;
mod random;
mod store;
mod support;
mod way;
