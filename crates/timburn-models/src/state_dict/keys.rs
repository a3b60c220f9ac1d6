/// The key of a parameter while a module is walked: Burn's path, spelled as PyTorch spells it.
///
/// Three rules make every family's fields give torchvision's and timm's keys without a table:
/// - a field `_3` is element 3 of a PyTorch `Sequential` (`conv1._3.weight` → `conv1.3.weight`);
/// - a field `__` is the module itself: a wrapper around a layer adds nothing to the layer's keys;
/// - the name of an enum's variant is no part of the key.
#[derive(Debug, Default)]
pub struct KeyPath {
    /// One entry per module entered, `None` where it adds nothing to the key.
    segments: Vec<Option<String>>,
}

impl KeyPath {
    /// On entering a module, with what Burn's visitor says.
    pub fn enter(&mut self, name: &str, container: &str) {
        let segment = (name != "__" && !container.starts_with("Enum:")).then(|| {
            let index = name.strip_prefix('_').filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
            index.unwrap_or(name).to_owned()
        });
        self.segments.push(segment);
    }

    /// On leaving it.
    pub fn exit(&mut self) {
        self.segments.pop();
    }

    /// The key of the current position, segments joined by dots.
    pub fn key(&self) -> String {
        let segments: Vec<&str> = self.segments.iter().flatten().map(String::as_str).collect();
        segments.join(".")
    }
}
