//! The messages of `onnx.proto`, and a file of them.

use std::io::{self, Write};

use half::f16;
use timburn_core::protobuf::Message;

/// Version of the file format that belongs to the operator set.
const IR_VERSION: u64 = 8;
/// Version of the operators.
pub(super) const OPSET: u64 = 17;

/// Element types, by their numbers in `TensorProto.DataType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementType {
    F32 = 1,
    U8 = 2,
    I64 = 7,
    F16 = 10,
}

/// An attribute of a node.
#[derive(Debug, Clone)]
pub(super) enum Attribute {
    Int(&'static str, i64),
    Ints(&'static str, Vec<i64>),
}

impl Attribute {
    fn message(&self) -> Message {
        // Numbers of `AttributeProto.AttributeType`.
        const INT: u64 = 2;
        const INTS: u64 = 7;
        let (message, kind) = match self {
            Self::Int(name, value) => (Message::default().bytes(1, name.as_bytes()).integer(3, *value as u64), INT),
            Self::Ints(name, values) => {
                let named = Message::default().bytes(1, name.as_bytes());
                (values.iter().fold(named, |message, &value| message.integer(8, value as u64)), INTS)
            }
        };
        message.integer(20, kind)
    }
}

/// A node with one output.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) op: &'static str,
    pub(super) name: String,
    pub(super) inputs: Vec<String>,
    pub(super) output: String,
    pub(super) attributes: Vec<Attribute>,
}

impl Node {
    fn message(&self) -> Message {
        let message = self.inputs.iter().fold(Message::default(), |message, input| message.bytes(1, input.as_bytes()));
        let message = message.bytes(2, self.output.as_bytes()).bytes(3, self.name.as_bytes()).bytes(4, self.op.as_bytes());
        self.attributes.iter().fold(message, |message, attribute| message.message(5, attribute.message()))
    }
}

/// A tensor of the file.
#[derive(Debug, Clone)]
pub(super) struct Initializer {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) values: Values,
}

#[derive(Debug, Clone)]
pub(super) enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
    I64(Vec<i64>),
}

impl Initializer {
    /// Bytes of the values.
    fn len(&self) -> u64 {
        let (count, size) = match &self.values {
            Values::F32(values) => (values.len(), 4),
            Values::F16(values) => (values.len(), 2),
            Values::I64(values) => (values.len(), 8),
        };
        count as u64 * size
    }

    /// The `TensorProto` up to the values.
    fn header(&self) -> Message {
        let kind = match self.values {
            Values::F32(_) => ElementType::F32,
            Values::F16(_) => ElementType::F16,
            Values::I64(_) => ElementType::I64,
        };
        let message = self.dims.iter().fold(Message::default(), |message, &extent| message.integer(1, extent as u64));
        message.integer(2, kind as u64).bytes(8, self.name.as_bytes()).opening(9, self.len())
    }

    fn write_values(&self, out: &mut dyn Write) -> io::Result<()> {
        fn all<T: Copy, const N: usize>(out: &mut dyn Write, values: &[T], bytes: impl Fn(T) -> [u8; N]) -> io::Result<()> {
            values
                .chunks(1 << 14)
                .try_for_each(|some| out.write_all(some.iter().map(|&value| bytes(value)).collect::<Vec<_>>().as_flattened()))
        }
        match &self.values {
            Values::F32(values) => all(out, values, f32::to_le_bytes),
            Values::F16(values) => all(out, values, f16::to_le_bytes),
            Values::I64(values) => all(out, values, i64::to_le_bytes),
        }
    }
}

/// An input or output of the graph; its first axis is the batch, of any size.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) kind: ElementType,
    /// Extents after the batch.
    pub(super) dims: Vec<usize>,
}

impl Port {
    fn message(&self) -> Message {
        let batch = Message::default().message(1, Message::default().bytes(2, b"batch"));
        let shape = self.dims.iter().fold(batch, |shape, &extent| shape.message(1, Message::default().integer(1, extent as u64)));
        let tensor = Message::default().integer(1, self.kind as u64).message(2, shape);
        Message::default().bytes(1, self.name.as_bytes()).message(2, Message::default().message(1, tensor))
    }
}

/// All that a file holds.
#[derive(Debug)]
pub(super) struct File<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) nodes: &'a [Node],
    pub(super) initializers: &'a [Initializer],
    pub(super) input: &'a Port,
    pub(super) output: &'a Port,
    pub(super) properties: &'a [(String, String)],
}

impl File<'_> {
    /// The file's parts but for the tensors' values, which come between them: what comes before each tensor's values, and what after the last.
    fn parts(&self) -> (Vec<Message>, Message) {
        let nodes = self.nodes.iter().fold(Message::default(), |message, node| message.message(1, node.message()));
        let mut next = nodes.bytes(2, self.name.as_bytes());
        let mut graph = Vec::with_capacity(self.initializers.len());
        let mut length = 0;
        for tensor in self.initializers {
            let header = tensor.header();
            // A field whose content ends with the values.
            let opened = next.opening(5, header.as_bytes().len() as u64 + tensor.len()).then(header);
            length += opened.as_bytes().len() as u64 + tensor.len();
            graph.push(opened);
            next = Message::default();
        }
        let end = next.message(11, self.input.message()).message(12, self.output.message());
        length += end.as_bytes().len() as u64;
        let model = Message::default().integer(1, IR_VERSION).bytes(2, b"timburn").bytes(3, env!("CARGO_PKG_VERSION").as_bytes());
        let model = model.bytes(6, self.description.as_bytes()).opening(7, length);
        let opset = Message::default().bytes(1, b"").integer(2, OPSET);
        let property = |(key, value): &(String, String)| Message::default().bytes(1, key.as_bytes()).bytes(2, value.as_bytes());
        let after = self.properties.iter().fold(Message::default().message(8, opset), |model, entry| model.message(14, property(entry)));
        let end = end.then(after);
        match graph.first_mut() {
            Some(first) => {
                *first = model.then(std::mem::take(first));
                (graph, end)
            }
            None => (graph, model.then(end)),
        }
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> u64 {
        let (starts, end) = self.parts();
        let framing: usize = starts.iter().chain([&end]).map(|part| part.as_bytes().len()).sum();
        framing as u64 + self.initializers.iter().map(Initializer::len).sum::<u64>()
    }

    /// Writes the file; no tensor is copied as a whole.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (starts, end) = self.parts();
        for (start, tensor) in starts.iter().zip(self.initializers) {
            out.write_all(start.as_bytes())?;
            tensor.write_values(out)?;
        }
        out.write_all(end.as_bytes())
    }
}
