//! The few things of pickle protocol 2 that our archives are written with.

/// Opcodes of pickle protocol 2 used here.
pub mod op {
    pub const PROTO: u8 = 0x80;
    pub const EMPTY_DICT: u8 = b'}';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const MARK: u8 = b'(';
    pub const TUPLE: u8 = b't';
    pub const SETITEMS: u8 = b'u';
    pub const BINUNICODE: u8 = b'X';
    pub const GLOBAL: u8 = b'c';
    pub const REDUCE: u8 = b'R';
    pub const BINPERSID: u8 = b'Q';
    pub const NEWFALSE: u8 = 0x89;
    pub const BININT: u8 = b'J';
    pub const BININT1: u8 = b'K';
    pub const LONG1: u8 = 0x8a;
    pub const BINFLOAT: u8 = b'G';
    pub const NEWOBJ: u8 = 0x81;
    pub const BUILD: u8 = b'b';
    pub const STOP: u8 = b'.';
}

/// `_rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())`.
pub fn push_tensor(out: &mut Vec<u8>, storage: &str, key: usize, size: &[i64]) {
    push_global(out, "torch._utils", "_rebuild_tensor_v2");
    out.push(op::MARK);
    let numel = size.iter().product::<i64>();
    out.push(op::MARK);
    push_str(out, "storage");
    push_global(out, "torch", storage);
    push_str(out, &key.to_string());
    push_str(out, "cpu");
    push_int(out, numel);
    out.extend([op::TUPLE, op::BINPERSID]);
    push_int(out, 0);
    push_tuple(out, size);
    push_tuple(out, &contiguous_strides(size));
    out.push(op::NEWFALSE);
    push_global(out, "collections", "OrderedDict");
    out.extend([op::EMPTY_TUPLE, op::REDUCE]);
    out.extend([op::TUPLE, op::REDUCE]);
}

fn contiguous_strides(size: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; size.len()];
    for i in (0..size.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * size[i + 1].max(1);
    }
    strides
}

/// The name of a class or function.
pub fn push_global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.push(op::GLOBAL);
    out.extend_from_slice(module.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
}

/// A text.
pub fn push_str(out: &mut Vec<u8>, text: &str) {
    out.push(op::BINUNICODE);
    // Names of tensors are far below 4 GiB.
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn push_tuple(out: &mut Vec<u8>, values: &[i64]) {
    if values.is_empty() {
        out.push(op::EMPTY_TUPLE);
        return;
    }
    out.push(op::MARK);
    for &value in values {
        push_int(out, value);
    }
    out.push(op::TUPLE);
}

/// A whole number.
pub fn push_int(out: &mut Vec<u8>, value: i64) {
    if let Ok(byte) = u8::try_from(value) {
        out.extend([op::BININT1, byte]);
    } else if let Ok(int) = i32::try_from(value) {
        out.push(op::BININT);
        out.extend_from_slice(&int.to_le_bytes());
    } else {
        out.extend([op::LONG1, 8]);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// A number with a fraction.
pub fn push_float(out: &mut Vec<u8>, value: f64) {
    out.push(op::BINFLOAT);
    out.extend_from_slice(&value.to_be_bytes());
}
