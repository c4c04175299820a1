//! A program in the making: its lines, and the attributes it speaks of.

use std::fmt::Write as _;
use std::path::Path;

use tch::Tensor;

use crate::pth::PthError;
use crate::pth::archive::{Storages, write_archive};
use crate::pth::pickle::{op, push_float, push_global, push_str};

/// What an attribute of the object holds.
enum Value {
    Tensor(Tensor),
    Float(f64),
}

/// Attributes and the lines of `forward`.
pub struct Program {
    arguments: &'static str,
    attributes: Vec<(String, Value)>,
    lines: Vec<String>,
}

impl Program {
    /// `arguments` of `forward` behind `self`, each with its type.
    pub fn new(arguments: &'static str) -> Self {
        Self { arguments, attributes: Vec::new(), lines: Vec::new() }
    }

    /// Adds weights; `convs.0.bias` under the prefix `gat` becomes the attribute `gat_convs_0_bias`.
    pub fn weights<'a>(&mut self, prefix: &str, named: impl IntoIterator<Item = (&'a String, &'a Tensor)>) {
        for (name, tensor) in named {
            let name = format!("{prefix}_{}", name.replace('.', "_"));
            self.attributes.push((name, Value::Tensor(tensor.shallow_clone())));
        }
    }

    /// Adds a number that a user of the file can read.
    pub fn number(&mut self, name: &str, value: f64) {
        self.attributes.push((name.to_owned(), Value::Float(value)));
    }

    /// `name = expression`.
    pub fn let_(&mut self, name: &str, expression: impl AsRef<str>) {
        self.lines.push(format!("{name} = {}", expression.as_ref()));
    }

    fn code(&self, result: &str) -> String {
        let mut code = "class Model(Module):\n  __parameters__ = []\n".to_owned();
        let tensors = self.attributes.iter().filter(|(_, value)| matches!(value, Value::Tensor(_)));
        let buffers: String = tensors.map(|(name, _)| format!("\"{name}\", ")).collect();
        // Writing into a String cannot fail.
        let _ = writeln!(code, "  __buffers__ = [{buffers}]");
        for (name, value) in &self.attributes {
            let kind = if matches!(value, Value::Tensor(_)) { "Tensor" } else { "float" };
            let _ = writeln!(code, "  {name} : {kind}");
        }
        let _ = writeln!(code, "  training : bool");
        let _ = writeln!(code, "  def forward(self: __torch__.Model,\n    {}) -> Tensor:", self.arguments);
        for line in &self.lines {
            let _ = writeln!(code, "    {line}");
        }
        let _ = writeln!(code, "    return {result}");
        code
    }

    /// Writes the file; `result` is the name that `forward` returns.
    ///
    /// # Errors
    /// `Io`/`Zip` when the disk refuses.
    pub fn write(&self, path: &Path, result: &str) -> Result<(), PthError> {
        let mut storages = Storages::default();
        let mut pickle = vec![op::PROTO, 2];
        push_global(&mut pickle, "__torch__", "Model");
        pickle.extend([op::EMPTY_TUPLE, op::NEWOBJ, op::EMPTY_DICT, op::MARK]);
        for (name, value) in &self.attributes {
            push_str(&mut pickle, name);
            match value {
                Value::Tensor(tensor) => storages.push(&mut pickle, name, tensor)?,
                Value::Float(value) => push_float(&mut pickle, *value),
            }
        }
        push_str(&mut pickle, "training");
        pickle.extend([op::NEWFALSE, op::SETITEMS, op::BUILD, op::STOP]);
        let code = self.code(result);
        let constants = [op::PROTO, 2, op::EMPTY_TUPLE, op::STOP];
        let entries: [(&str, &[u8]); 3] =
            [("data.pkl", &pickle), ("code/__torch__.py", code.as_bytes()), ("constants.pkl", &constants)];
        write_archive(path, &entries, &storages)
    }
}
