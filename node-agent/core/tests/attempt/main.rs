//! The core against a played world.
//!
//! | file | tests |
//! |--|--|
//! | `support` | a bus with compare-and-swap, and the other hands |
//! | `way` | taking, renewing, checkpoints, the result |
//! | `faults` | bad ends, fences, restart, shutdown |
//! | `losses` | what the bus forgets |
//! | `random` | any order of facts |

mod faults;
mod losses;
mod random;
mod store;
mod support;
mod way;
mod yields;
