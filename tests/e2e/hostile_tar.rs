//! Archives as no decent program writes them.

/// An archive in the making.
#[derive(Clone, Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
    records: Vec<u8>,
    mode: Option<u32>,
}

impl Tar {
    /// A PAX record for the next member.
    pub(crate) fn record(mut self, key: &str, value: &[u8]) -> Self {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length.to_string().len() + rest != length {
            length += 1;
        }
        self.records.extend(format!("{length} {key}=").bytes());
        self.records.extend(value);
        self.records.push(b'\n');
        self
    }

    /// Permission bits of files from here on.
    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        self.bytes(path, text.as_bytes())
    }

    pub(crate) fn bytes(self, path: &str, content: &[u8]) -> Self {
        self.member(b'0', path, "", content, (0, 0))
    }

    pub(crate) fn directory(self, path: &str) -> Self {
        self.member(b'5', path, "", b"", (0, 0))
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.member(b'2', path, target, b"", (0, 0))
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.member(b'1', path, target, b"", (0, 0))
    }

    pub(crate) fn device(self, path: &str, kind: u8, major: u32, minor: u32) -> Self {
        self.member(kind, path, "", b"", (major, minor))
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }

    fn member(mut self, kind: u8, path: &str, target: &str, content: &[u8], device: (u32, u32)) -> Self {
        if path.len() > 100 {
            self = self.record("path", path.as_bytes());
        }
        if target.len() > 100 {
            self = self.record("linkpath", target.as_bytes());
        }
        let mode = if kind == b'5' { 0o755 } else { self.mode.unwrap_or(0o644) };
        let records = std::mem::take(&mut self.records);
        if !records.is_empty() {
            self.block(b'x', b"records", b"", &records, 0o644, (0, 0));
        }
        self.block(kind, path.as_bytes(), target.as_bytes(), content, mode, device);
        self
    }

    fn block(&mut self, kind: u8, path: &[u8], target: &[u8], content: &[u8], mode: u32, device: (u32, u32)) {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8], room: usize| {
            let bytes = &bytes[..bytes.len().min(room)];
            header[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, path, 100);
        put(100, format!("{mode:07o}").as_bytes(), 8);
        put(108, b"0000000", 8);
        put(116, b"0000000", 8);
        put(124, format!("{:011o}", content.len()).as_bytes(), 12);
        put(136, b"00000000000", 12);
        put(148, b"        ", 8);
        put(156, &[kind], 1);
        put(157, target, 100);
        put(257, b"ustar\x0000", 8);
        put(329, format!("{:07o}", device.0).as_bytes(), 8);
        put(337, format!("{:07o}", device.1).as_bytes(), 8);
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.bytes.extend(header);
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }
}
