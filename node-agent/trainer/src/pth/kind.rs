//! Element types and the storage class names that torch's pickles use for them.

use tch::Kind;

const TABLE: [(Kind, &str); 9] = [
    (Kind::Float, "FloatStorage"),
    (Kind::Double, "DoubleStorage"),
    (Kind::Half, "HalfStorage"),
    (Kind::BFloat16, "BFloat16Storage"),
    (Kind::Int64, "LongStorage"),
    (Kind::Int, "IntStorage"),
    (Kind::Int16, "ShortStorage"),
    (Kind::Uint8, "ByteStorage"),
    (Kind::Bool, "BoolStorage"),
];

pub(super) fn storage_name(kind: Kind) -> Option<&'static str> {
    TABLE.iter().find(|(k, _)| *k == kind).map(|(_, name)| *name)
}

pub(super) fn kind_of_storage(name: &str) -> Option<Kind> {
    TABLE.iter().find(|(_, n)| *n == name).map(|(kind, _)| *kind)
}
