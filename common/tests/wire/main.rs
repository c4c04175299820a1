//! Every record and message as it goes over the wire, held against golden files: what an agent of this version
//! says is what the next version must read.
//!
//! A changed golden file means that neighbours in version may part. New optional fields are fine; write the
//! files anew with `COORD_GOLDEN=write cargo test -p common --test wire` and look at what changed.
//!
//! | file | holds |
//! |--|--|
//! | `samples` | one value of each record and message, every field filled |
//! | `older` | what an agent of the version before says, and what it makes of ours |

mod older;
mod samples;

use common::trainer_protocol::{encode_frame, read_frame};
use common::wire;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::{Debug, Write as _};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/golden").join(format!("{name}.hex"))
}

/// What a version before wrote.
fn recorded_bytes(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/recorded").join(format!("{name}.hex"));
    from_hex(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// Lines of 50 bytes, so that a change shows where it is.
fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(50) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a string takes all"));
        text.push('\n');
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

/// The bytes of the golden file, which must be those that are written today.
fn held(name: &str, today: &[u8]) -> Vec<u8> {
    let path = golden(name);
    if std::env::var_os("COORD_GOLDEN").is_some_and(|word| word == "write") {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        std::fs::write(&path, to_hex(today)).expect("writable");
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(
        text == to_hex(today),
        "{name} is written otherwise than its golden file says:\n{}",
        to_hex(today)
    );
    from_hex(&text)
}

fn record<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let bytes = held(name, &wire::encode(value).expect("encodes"));
    assert_eq!(wire::decode::<T>(&bytes).expect("reads what it wrote"), *value);
}

fn frame<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let bytes = held(name, &encode_frame(value).expect("encodes"));
    assert_eq!(read_frame::<T>(&mut bytes.as_slice()).expect("reads what it wrote"), *value);
}

#[test]
fn records_and_messages_are_written_as_their_golden_files_say() {
    record("plan", &samples::plan());
    record("chain", &samples::chain());
    record("registry", &samples::registry());
    record("offer", &samples::offer());
    record("beat", &samples::beat());
    record("event", &samples::event());
    for (name, slot) in samples::slots() {
        record(&format!("slot_{name}"), &slot);
    }
}

#[test]
fn frames_of_the_trainer_are_written_as_their_golden_files_say() {
    for (name, message) in samples::to_trainer() {
        frame(&format!("to_trainer_{name}"), &message);
    }
    for (name, message) in samples::from_trainer() {
        frame(&format!("from_trainer_{name}"), &message);
    }
}
