//! The program `coord` as a user meets it: its exit codes, its pages, its effect on a real nats-server.

mod bad_input;
mod bench;
mod outage;
mod plan_apply;
mod rebuild;
mod serve_cancel;
