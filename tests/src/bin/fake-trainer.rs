//! A trainer that computes nothing: it speaks the protocol of the real one, as its script says.

fn main() {
    std::process::exit(harness::fake::main());
}
