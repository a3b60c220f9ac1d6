//! A reader of the pickles that data sets come in: dicts, lists, strings, integers and arrays of bytes. It executes nothing.
//!
//! Protocols 2 to 5, as `pickle` and `numpy` of Python 2 and 3 write them. A pickle is a program that may name any function to call; this
//! reader knows five names, treats each as a shape of data, and refuses all others. Strings and arrays stay where they are in the file's
//! bytes. Everything else takes at most a million steps, so no input makes more than about 100 MB of it.

use std::collections::HashMap;
use std::ops::Range;

/// The largest official file (CIFAR-100, 50,000 names and 100,000 labels) has a quarter of this.
const MAX_STEPS: usize = 1_000_000;

/// Why a pickle is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where, in bytes from the start.
    pub(super) position: usize,
    pub(super) found: String,
}

/// Place of a value among all values.
type Id = usize;

#[derive(Debug, Clone)]
enum Node {
    /// `None`, `False`, a float: values that are there to be skipped.
    Other,
    True,
    Int(i64),
    /// A string of either kind, in the input.
    Text(Range<usize>),
    /// Bytes that Python 3 wrote for protocol 2: as text, decoded.
    Owned(Vec<u8>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Dtype {
        is_u8: bool,
    },
    Array {
        shape: Vec<usize>,
        data: Option<Id>,
        is_u8: bool,
    },
}

/// The names known, none of which is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Global {
    Reconstruct,
    FromBuffer,
    NdArray,
    Dtype,
    /// `_codecs.encode`: how Python 3 writes bytes in protocol 2.
    Encode,
}

impl Global {
    fn named(module: &[u8], name: &[u8]) -> Option<Self> {
        Some(match (module, name) {
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => Self::Reconstruct,
            (b"numpy.core.numeric" | b"numpy._core.numeric", b"_frombuffer") => Self::FromBuffer,
            (b"numpy", b"ndarray") => Self::NdArray,
            (b"numpy", b"dtype") => Self::Dtype,
            (b"_codecs", b"encode") => Self::Encode,
            _ => return None,
        })
    }
}

/// A pickle's values.
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    root: Id,
}

/// A value of a pickle.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pickle: &'a Pickle<'a>,
    id: Id,
}

impl<'a> Pickle<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut machine =
            Machine { bytes, position: 0, nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), owned: 0 };
        match machine.run() {
            Ok(root) => Ok(Self { bytes, nodes: machine.nodes, root }),
            Err(found) => Err(Fault { position: machine.position, found }),
        }
    }

    pub(super) fn root(&'a self) -> Value<'a> {
        Value { pickle: self, id: self.root }
    }
}

/// An array of bytes in C order.
pub(super) struct ByteArray<'a> {
    pub(super) shape: &'a [usize],
    /// Where its content lies in the pickle, `None` when it had to be decoded.
    pub(super) range: Option<Range<usize>>,
    pub(super) data: &'a [u8],
}

impl<'a> Value<'a> {
    fn node(self) -> &'a Node {
        self.pickle.nodes.get(self.id).unwrap_or(&Node::Other)
    }

    /// The value of a dict's key; the last one, as in Python, where it comes twice.
    pub(super) fn get(self, key: &str) -> Option<Self> {
        let Node::Dict(pairs) = self.node() else { return None };
        let of = |id| Self { pickle: self.pickle, id };
        pairs.iter().rev().find(|(candidate, _)| of(*candidate).text() == Some(key.as_bytes())).map(|(_, value)| of(*value))
    }

    /// A string's bytes.
    pub(super) fn text(self) -> Option<&'a [u8]> {
        match self.node() {
            Node::Text(range) => self.pickle.bytes.get(range.clone()),
            Node::Owned(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn int(self) -> Option<i64> {
        if let Node::Int(value) = self.node() { Some(*value) } else { None }
    }

    /// A list's or tuple's values.
    pub(super) fn items(self) -> Option<impl ExactSizeIterator<Item = Self> + 'a> {
        let (Node::List(items) | Node::Tuple(items)) = self.node() else { return None };
        let pickle = self.pickle;
        Some(items.iter().map(move |id| Self { pickle, id: *id }))
    }

    pub(super) fn array(self) -> Option<ByteArray<'a>> {
        let Node::Array { shape, data: Some(data), is_u8: true } = self.node() else { return None };
        let content = Self { pickle: self.pickle, id: *data };
        let range = if let Node::Text(range) = content.node() { Some(range.clone()) } else { None };
        let data = content.text()?;
        let count = shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side))?;
        (count == data.len()).then_some(ByteArray { shape, range, data })
    }
}

/// The stack machine without its calls.
struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Bytes decoded so far; never more than the input has.
    owned: usize,
}

type Step<T> = Result<T, String>;

impl Machine<'_> {
    fn run(&mut self) -> Step<Id> {
        for _ in 0..MAX_STEPS {
            let opcode = self.byte()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
        Err(format!("more than {MAX_STEPS} opcodes"))
    }

    fn step(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            0x80 => match self.byte()? {
                2..=5 => {}
                version => return Err(format!("protocol {version}")),
            },
            // FRAME: a hint for readers of streams.
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'N' | 0x89 => self.push(Node::Other),
            0x88 => self.push(Node::True),
            b'G' => {
                self.take(8)?;
                self.push(Node::Other);
            }
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => {
                let value = self.number(4)? as u32 as i32;
                self.push(Node::Int(value.into()));
            }
            0x8A => {
                let length = self.number(1)?;
                self.long(length)?;
            }
            // SHORT_BINSTRING, BINSTRING, BINUNICODE, SHORT_BINUNICODE, BINUNICODE8, SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'U' | 0x8C | b'C' => self.text(1)?,
            b'T' | b'X' | b'B' => self.text(4)?,
            0x8D | 0x8E | 0x96 => self.text(8)?,
            b']' => self.push(Node::List(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            b'l' | b't' => {
                let items = self.pop_mark()?;
                self.push(if opcode == b'l' { Node::List(items) } else { Node::Tuple(items) });
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Node::Dict(Vec::new()));
                self.set_items(&items)?;
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let from = self.stack.len().checked_sub(count).filter(|from| *from >= self.floor()).ok_or("a tuple of nothing")?;
                let items = self.stack.split_off(from);
                self.push(Node::Tuple(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }
            b'2' => self.stack.push(self.top()?),
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            0x94 => {
                let slot = u32::try_from(self.memo.len()).map_err(|_| "too many memo entries")?;
                self.memo.insert(slot, self.top()?);
            }
            b'h' => self.fetch(1)?,
            b'j' => self.fetch(4)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (name, module) = (self.text_of(name)?.to_vec(), self.text_of(module)?.to_vec());
                self.global(&module, &name)?;
            }
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            _ => return Err(format!("opcode {opcode:#04x}, which data has no use for")),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Step<Range<usize>> {
        let end = self.position.checked_add(count).filter(|end| *end <= self.bytes.len()).ok_or("the end of the file")?;
        let range = self.position..end;
        self.position = end;
        Ok(range)
    }

    fn byte(&mut self) -> Step<u8> {
        let at = self.take(1)?.start;
        self.bytes.get(at).copied().ok_or_else(|| "the end of the file".into())
    }

    /// A little-endian number of up to 8 bytes.
    fn number(&mut self, width: usize) -> Step<u64> {
        let range = self.take(width)?;
        let digits = self.bytes.get(range).unwrap_or_default();
        Ok(digits.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn int(&mut self, width: usize) -> Step<()> {
        let value = self.number(width)?;
        self.push(Node::Int(value as i64));
        Ok(())
    }

    /// A two's complement number of any length; those beyond 64 bits are no label.
    fn long(&mut self, length: u64) -> Step<()> {
        let value = match length {
            0 => 0,
            1..=8 => {
                let width = length as usize;
                let unused = 64 - 8 * width as u32;
                ((self.number(width)? << unused) as i64) >> unused
            }
            _ => return Err(format!("an integer of {length} bytes")),
        };
        self.push(Node::Int(value));
        Ok(())
    }

    fn text(&mut self, width: usize) -> Step<()> {
        let length = usize::try_from(self.number(width)?).map_err(|_| "the end of the file")?;
        let range = self.take(length)?;
        self.push(Node::Text(range));
        Ok(())
    }

    fn line(&mut self) -> Step<Vec<u8>> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        // No name that is known is longer.
        let length = rest.iter().take(64).position(|byte| *byte == b'\n').ok_or("a name without an end")?;
        let range = self.take(length + 1)?;
        Ok(self.bytes.get(range.start..range.end - 1).unwrap_or_default().to_vec())
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    /// Height of the stack below which the innermost mark lets nobody reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Id> {
        if self.stack.len() <= self.floor() {
            return Err("a value missing on the stack".into());
        }
        self.stack.pop().ok_or_else(|| "a value missing on the stack".into())
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().filter(|_| self.stack.len() > self.floor()).ok_or_else(|| "a value missing on the stack".into())
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or("a mark missing on the stack")?;
        Ok(self.stack.split_off(mark))
    }

    fn put(&mut self, width: usize) -> Step<()> {
        let slot = self.number(width)? as u32;
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn fetch(&mut self, width: usize) -> Step<()> {
        let slot = self.number(width)? as u32;
        let id = *self.memo.get(&slot).ok_or_else(|| format!("memo entry {slot}, which is not there"))?;
        self.stack.push(id);
        Ok(())
    }

    fn append(&mut self, items: &[Id]) -> Step<()> {
        let top = self.top()?;
        let Some(Node::List(list)) = self.nodes.get_mut(top) else { return Err("items for what is no list".into()) };
        list.extend_from_slice(items);
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Step<()> {
        let top = self.top()?;
        let Some(Node::Dict(pairs)) = self.nodes.get_mut(top) else { return Err("entries for what is no dict".into()) };
        if !items.len().is_multiple_of(2) {
            return Err("a key without a value".into());
        }
        pairs.extend(items.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))));
        Ok(())
    }

    fn node(&self, id: Id) -> &Node {
        self.nodes.get(id).unwrap_or(&Node::Other)
    }

    fn text_of(&self, id: Id) -> Step<&[u8]> {
        match self.node(id) {
            Node::Text(range) => Ok(self.bytes.get(range.clone()).unwrap_or_default()),
            _ => Err("something else where a string belongs".into()),
        }
    }

    fn global(&mut self, module: &[u8], name: &[u8]) -> Step<()> {
        let shown = |part: &[u8]| part.escape_ascii().take(80).map(char::from).collect::<String>();
        let global = Global::named(module, name);
        let global = global.ok_or_else(|| format!("a call of `{}.{}`, which was not made", shown(module), shown(name)))?;
        self.push(Node::Global(global));
        Ok(())
    }

    /// What a call would return, from its arguments alone.
    fn reduce(&mut self) -> Step<()> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Node::Tuple(arguments) = self.node(arguments) else { return Err("arguments that are no tuple".into()) };
        let node = match (self.node(callee), arguments.as_slice()) {
            (Node::Global(Global::Reconstruct), [class, _, _]) if matches!(self.node(*class), Node::Global(Global::NdArray)) => {
                Node::Array { shape: Vec::new(), data: None, is_u8: false }
            }
            (Node::Global(Global::Dtype), [code, ..]) => Node::Dtype { is_u8: matches!(self.text_of(*code)?, b"u1" | b"|u1" | b"uint8") },
            (Node::Global(Global::Encode), [text, codec]) if matches!(self.text_of(*codec)?, b"latin1" | b"latin-1") => {
                let decoded = latin1(self.text_of(*text)?)?;
                self.owned += decoded.len();
                if self.owned > self.bytes.len() {
                    return Err("the same text decoded again and again".into());
                }
                Node::Owned(decoded)
            }
            (Node::Global(Global::FromBuffer), [data, dtype, shape, order]) => {
                let (data, dtype, shape) = (*data, *dtype, *shape);
                if self.text_of(*order)? != b"C" {
                    return Err("an array in Fortran order".into());
                }
                self.array(dtype, shape, data)?
            }
            _ => return Err("a call that makes no data".into()),
        };
        self.push(node);
        Ok(())
    }

    /// Fills an array in: `(version, shape, dtype, is_fortran, data)`. The state of a dtype (byte order, alignment) says nothing of bytes.
    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let target = self.top()?;
        let node = match (self.node(target), self.node(state)) {
            (Node::Dtype { .. }, Node::Tuple(_)) => return Ok(()),
            (Node::Array { data: None, .. }, Node::Tuple(state)) => match state.as_slice() {
                [_, _, _, is_fortran, _] if matches!(self.node(*is_fortran), Node::True) => {
                    return Err("an array in Fortran order".into());
                }
                [_, shape, dtype, _, data] => {
                    let (shape, dtype, data) = (*shape, *dtype, *data);
                    self.array(dtype, shape, data)?
                }
                _ => return Err("an array's state that is not numpy's".into()),
            },
            _ => return Err("a state for what has none".into()),
        };
        if let Some(slot) = self.nodes.get_mut(target) {
            *slot = node;
        }
        Ok(())
    }

    fn array(&self, dtype: Id, shape: Id, data: Id) -> Step<Node> {
        let (Node::Dtype { is_u8 }, Node::Tuple(sides)) = (self.node(dtype), self.node(shape)) else {
            return Err("an array without shape and type".into());
        };
        if sides.len() > 8 {
            return Err(format!("an array of {} dimensions", sides.len()));
        }
        let side = |id: &Id| match self.node(*id) {
            Node::Int(side) => usize::try_from(*side).map_err(|_| format!("an array with a side of {side}")),
            _ => Err("an array without shape".into()),
        };
        let shape = sides.iter().map(side).collect::<Step<Vec<usize>>>()?;
        Ok(Node::Array { shape, data: Some(data), is_u8: *is_u8 })
    }
}

/// UTF-8 of characters below 256, back to the bytes they stand for.
fn latin1(text: &[u8]) -> Step<Vec<u8>> {
    let text = std::str::from_utf8(text).map_err(|_| "text that is not UTF-8")?;
    text.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| "text beyond Latin-1".into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8]) -> String {
        Pickle::parse(bytes).err().expect("refused").found
    }

    #[test]
    fn nothing_is_called() {
        assert!(fault(b"\x80\x02cposix\nsystem\nX\x02\0\0\0id\x85R.").contains("`posix.system`"));
        assert!(fault(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93)R.").contains("`builtins.eval`"));
        // INST, OBJ, NEWOBJ, EXT1, PERSID, BINPERSID, NEXT_BUFFER
        for opcode in [b'i', b'o', 0x81, 0x82, b'P', b'Q', 0x97] {
            assert!(fault(&[0x80, 2, b'N', opcode]).contains("no use"), "{opcode}");
        }
    }

    #[test]
    fn broken_stacks_are_errors() {
        for bytes in [
            &b""[..],
            b".",
            b"\x80\x02e.",
            b"\x80\x02]s.",
            b"\x80\x02(.",
            b"\x80\x02K\x01\x87.",
            b"\x80\x02h\x05.",
            b"\x80\x02](K\x01\x85e.",
        ] {
            let _ = Pickle::parse(bytes);
        }
        assert!(fault(b"\x80\x02]K\x01").contains("end of the file"));
        assert!(fault(b"\x80\x06N.").contains("protocol 6"));
        assert!(fault(&b"N0".repeat(MAX_STEPS)).contains("opcodes"));
        // A mark hides what lies below it.
        assert!(fault(b"\x80\x02K\x01(0.").contains("stack"));
    }

    #[test]
    fn integers_have_signs() {
        let value = |bytes: &[u8]| Pickle::parse(bytes).unwrap().root().int();
        assert_eq!(value(b"\x80\x02J\xff\xff\xff\xff."), Some(-1));
        assert_eq!(value(b"\x80\x02\x8a\x01\xff."), Some(-1));
        assert_eq!(value(b"\x80\x02\x8a\x02\xff\x00."), Some(255));
        assert_eq!(value(b"\x80\x02\x8a\x00."), Some(0));
        assert_eq!(value(b"\x80\x02M\x10\x27."), Some(10_000));
    }
}
