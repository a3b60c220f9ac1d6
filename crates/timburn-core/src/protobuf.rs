//! As much of protocol buffers as event files and ONNX need: messages are written, never read.

/// A message being put together, field by field; by convention in ascending order.
///
/// ```
/// use timburn_core::protobuf::Message;
///
/// let dimension = Message::default().integer(1, 300);
/// assert_eq!(Message::default().message(2, dimension).as_bytes(), [0x12, 3, 0x08, 0xAC, 0x02]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A field of type `double`.
    #[must_use]
    pub fn double(self, field: u64, value: f64) -> Self {
        self.tag(field, 1).raw(&value.to_le_bytes())
    }

    /// A field of type `float`.
    #[must_use]
    pub fn float(self, field: u64, value: f32) -> Self {
        self.tag(field, 5).raw(&value.to_le_bytes())
    }

    /// A field of type `int32`, `int64`, `uint32`, `uint64`, `bool` or an enumeration. Negative values are given as two's complement.
    #[must_use]
    pub fn integer(self, field: u64, value: u64) -> Self {
        self.tag(field, 0).varint(value)
    }

    /// A field of type `bytes` or `string`.
    #[must_use]
    pub fn bytes(self, field: u64, value: &[u8]) -> Self {
        self.opening(field, value.len() as u64).raw(value)
    }

    /// A field that is a message itself.
    #[must_use]
    pub fn message(self, field: u64, value: Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// What comes before the content of a field of `length` bytes, for content that is written after this message.
    #[must_use]
    pub fn opening(self, field: u64, length: u64) -> Self {
        self.tag(field, 2).varint(length)
    }

    /// The fields of another message after those of this one.
    #[must_use]
    pub fn then(self, more: Self) -> Self {
        self.raw(&more.0)
    }

    /// The message so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn tag(self, field: u64, wire_type: u64) -> Self {
        self.varint(field << 3 | wire_type)
    }

    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}
