//! A stack machine for the pickles of state dicts. It builds values and calls nothing: the only "calls"
//! known are the rebuilding of a tensor and an empty `OrderedDict`; everything else is refused.

use std::collections::HashMap;
use std::rc::Rc;

use tch::Kind;

use super::kind::kind_of_storage;

/// A tensor as the pickle describes it; the bytes lie in the archive under `key`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorRef {
    pub kind: Kind,
    pub key: String,
    /// Elements of the whole storage, of which the tensor may be a view.
    pub storage_numel: i64,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// None, a truth value or a float: legal, and nothing weights are made of.
    Other,
    Int(i64),
    Str(Rc<str>),
    Tuple(Rc<Vec<Value>>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Global(Rc<str>, Rc<str>),
    Storage(Rc<(Kind, String, i64)>),
    Tensor(Rc<TensorRef>),
}

struct Machine<'a> {
    bytes: &'a [u8],
    stack: Vec<Value>,
    /// Stack heights at the open MARKs.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

/// Runs the pickle to its end. Every opcode eats at least one byte, so the length bounds the work.
pub(super) fn unpickle(bytes: &[u8]) -> Result<Value, String> {
    let mut machine = Machine { bytes, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let opcode = machine.take(1)?[0];
        if opcode == b'.' {
            return machine.pop();
        }
        machine.execute(opcode)?;
    }
}

impl<'a> Machine<'a> {
    fn execute(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            0x80 => drop(self.take(1)?),
            b'}' => self.stack.push(Value::Dict(Vec::new())),
            b']' => self.stack.push(Value::List(Vec::new())),
            b')' => self.stack.push(Value::Tuple(Rc::default())),
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Other),
            b'(' => self.marks.push(self.stack.len()),
            b't' => {
                let items = self.pop_to_mark()?;
                self.stack.push(Value::Tuple(Rc::new(items)));
            }
            0x85..=0x87 => {
                let start = self.height_below(usize::from(opcode - 0x84))?;
                let items = self.stack.split_off(start);
                self.stack.push(Value::Tuple(Rc::new(items)));
            }
            b'J' | b'K' | b'M' | 0x8a => {
                let value = self.int(opcode)?;
                self.stack.push(Value::Int(value));
            }
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Other);
            }
            b'X' => {
                let len = u32::from_le_bytes(self.array()?) as usize;
                let text = std::str::from_utf8(self.take(len)?).map_err(|e| e.to_string())?;
                self.stack.push(Value::Str(text.into()));
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(module, name));
            }
            b'q' | b'r' | b'h' | b'j' => self.memoize(opcode)?,
            b's' | b'u' | b'a' | b'e' => self.fill(opcode)?,
            b'Q' => {
                let id = self.pop()?;
                self.stack.push(storage_of(&id)?);
            }
            b'R' => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.stack.push(call(&callee, &arguments)?);
            }
            // BUILD carries the attributes of an OrderedDict (`_metadata`): not weights, dropped.
            b'b' => drop(self.pop()?),
            other => return Err(format!("pickle opcode 0x{other:02x} is not one a state dict needs")),
        }
        Ok(())
    }

    fn int(&mut self, opcode: u8) -> Result<i64, String> {
        Ok(match opcode {
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            b'K' => i64::from(self.take(1)?[0]),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            _ => {
                let len = usize::from(self.take(1)?[0]);
                if len > 8 {
                    return Err(format!("an integer of {len} bytes"));
                }
                let raw = self.take(len)?;
                let fill = if raw.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
                let mut wide = [fill; 8];
                wide[..len].copy_from_slice(raw);
                i64::from_le_bytes(wide)
            }
        })
    }

    fn memoize(&mut self, opcode: u8) -> Result<(), String> {
        let index = match opcode {
            b'q' | b'h' => u32::from(self.take(1)?[0]),
            _ => u32::from_le_bytes(self.array()?),
        };
        if matches!(opcode, b'q' | b'r') {
            let top = self.stack.last().ok_or("memo of an empty stack")?;
            // Containers are memoized while empty and by reference; a copy would go stale.
            if !matches!(top, Value::Dict(_) | Value::List(_)) {
                self.memo.insert(index, top.clone());
            }
            return Ok(());
        }
        let value = self.memo.get(&index).ok_or("a container used twice, or an unknown memo entry")?;
        self.stack.push(value.clone());
        Ok(())
    }

    /// SETITEM, SETITEMS, APPEND, APPENDS: moves values into the container below them.
    fn fill(&mut self, opcode: u8) -> Result<(), String> {
        let items = match opcode {
            b's' => self.stack.split_off(self.height_below(2)?),
            b'a' => self.stack.split_off(self.height_below(1)?),
            _ => self.pop_to_mark()?,
        };
        match (self.stack.last_mut(), opcode) {
            (Some(Value::Dict(entries)), b's' | b'u') => {
                if items.len() % 2 != 0 {
                    return Err("a dict key without a value".into());
                }
                let mut items = items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    entries.push((key, value));
                }
                Ok(())
            }
            (Some(Value::List(list)), b'a' | b'e') => {
                list.extend(items);
                Ok(())
            }
            _ => Err("items without a container to go into".into()),
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.bytes.split_at_checked(n).ok_or("the pickle ends in the middle")?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        // `take(N)` gives exactly N bytes.
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    fn line(&mut self) -> Result<Rc<str>, String> {
        let end = self.bytes.iter().position(|&b| b == b'\n').ok_or("a name without its end")?;
        let text = std::str::from_utf8(&self.take(end + 1)?[..end]).map_err(|e| e.to_string())?;
        Ok(text.into())
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.height_below(1)?;
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    /// Height of the stack without its top `n`, which must lie above the last MARK.
    fn height_below(&self, n: usize) -> Result<usize, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(height) if height >= floor => Ok(height),
            _ => Err("the stack holds too few values".into()),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or("no MARK on the stack")?;
        Ok(self.stack.split_off(mark))
    }
}

/// `('storage', <class>, key, device, numel)`.
fn storage_of(id: &Value) -> Result<Value, String> {
    let Value::Tuple(parts) = id else { return Err("a persistent id that is no tuple".into()) };
    match parts.as_slice() {
        [
            Value::Str(word),
            Value::Global(module, class),
            Value::Str(key),
            Value::Str(_),
            Value::Int(numel),
        ] if &**word == "storage" && &**module == "torch" => {
            let kind = kind_of_storage(class).ok_or_else(|| format!("storage class torch.{class}"))?;
            Ok(Value::Storage(Rc::new((kind, key.to_string(), *numel))))
        }
        _ => Err("a persistent id that is no storage".into()),
    }
}

fn call(callee: &Value, arguments: &Value) -> Result<Value, String> {
    let (Value::Global(module, name), Value::Tuple(arguments)) = (callee, arguments) else {
        return Err("a call of something that is no known function".into());
    };
    match (&**module, &**name, arguments.as_slice()) {
        ("collections", "OrderedDict", []) => Ok(Value::Dict(Vec::new())),
        (
            "torch._utils",
            "_rebuild_tensor_v2",
            [Value::Storage(storage), Value::Int(offset), Value::Tuple(size), Value::Tuple(stride), ..],
        ) => {
            let (kind, key, storage_numel) = &**storage;
            Ok(Value::Tensor(Rc::new(TensorRef {
                kind: *kind,
                key: key.clone(),
                storage_numel: *storage_numel,
                offset: *offset,
                size: ints(size)?,
                stride: ints(stride)?,
            })))
        }
        // Parameters: (tensor, requires_grad, hooks).
        ("torch._utils", "_rebuild_parameter", [tensor @ Value::Tensor(_), ..]) => Ok(tensor.clone()),
        _ => Err(format!("the file wants to call {module}.{name}: refused, only tensors are read")),
    }
}

fn ints(values: &[Value]) -> Result<Vec<i64>, String> {
    values
        .iter()
        .map(|value| match value {
            Value::Int(i) => Ok(*i),
            _ => Err("a size that is no integer".to_string()),
        })
        .collect()
}
