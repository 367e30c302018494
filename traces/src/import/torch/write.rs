//! Writes `.pt` files as `torch.save` does, for tests: by hand where a test needs a wrong one.

use std::io::{Cursor, Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A pickle that is put together opcode by opcode, and its storages.
#[derive(Clone, Default)]
pub(in crate::import) struct Writer {
    pub(in crate::import) pickle: Vec<u8>,
    pub(in crate::import) storages: Vec<Vec<u8>>,
}

impl Writer {
    pub(in crate::import) fn new() -> Self {
        Self { pickle: vec![0x80, 2], storages: Vec::new() }
    }

    pub(in crate::import) fn raw(mut self, bytes: &[u8]) -> Self {
        self.pickle.extend_from_slice(bytes);
        self
    }

    pub(in crate::import) fn text(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).unwrap();
        self.raw(b"X").raw(&length.to_le_bytes()).raw(text.as_bytes())
    }

    pub(in crate::import) fn int(self, value: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&value.to_le_bytes())
    }

    /// A contiguous tensor over a storage of its own.
    pub(in crate::import) fn tensor(mut self, kind: &str, shape: &[i64], data: Vec<u8>) -> Self {
        let elements = shape.iter().product();
        self.storages.push(data);
        self.view(kind, elements, 0, shape, None)
    }

    /// A view of the last storage that says whatever the caller wants it to say.
    pub(in crate::import) fn view(
        self,
        kind: &str,
        elements: i64,
        offset: i64,
        shape: &[i64],
        strides: Option<&[i64]>,
    ) -> Self {
        let mut contiguous = vec![1; shape.len()];
        for at in (1..shape.len()).rev() {
            contiguous[at - 1] = contiguous[at] * shape[at];
        }
        let key = (self.storages.len() - 1).to_string();
        let head = format!("ctorch\n{kind}\n");
        let this = self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((").text("storage");
        let this = this.raw(head.as_bytes()).text(&key).text("cpu").int(elements);
        let this = this.raw(b"tQ").int(offset);
        let this = this.tuple(shape).tuple(strides.unwrap_or(&contiguous));
        this.raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }

    fn tuple(self, values: &[i64]) -> Self {
        values.iter().fold(self.raw(b"("), |this, &value| this.int(value)).raw(b"t")
    }

    /// The file; `compression` is that of the storages.
    pub(in crate::import) fn zip(&self, compression: CompressionMethod) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let entry = |zip: &mut ZipWriter<Cursor<Vec<u8>>>, name: &str, options, bytes: &[u8]| {
            zip.start_file(format!("archive/{name}"), options).unwrap();
            zip.write_all(bytes).unwrap();
        };
        let pickle = [self.pickle.as_slice(), b"."].concat();
        entry(&mut zip, "data.pkl", stored, &pickle);
        entry(&mut zip, "byteorder", stored, b"little");
        for (key, bytes) in self.storages.iter().enumerate() {
            let options = SimpleFileOptions::default().compression_method(compression);
            entry(&mut zip, &format!("data/{key}"), options, bytes);
        }
        entry(&mut zip, "version", stored, b"3\n");
        zip.finish().unwrap().into_inner()
    }

    pub(in crate::import) fn file(&self) -> Vec<u8> {
        self.zip(CompressionMethod::Stored)
    }
}

pub(in crate::import) fn i32_bytes(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(in crate::import) fn i64_bytes(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A recording of mode `stat`.
pub(in crate::import) fn stat(rank: i64, shape: [i64; 3], counts: &[i32]) -> Writer {
    let writer = Writer::new().raw(b"}(").text("rank").int(rank).text("logical_count");
    let writer = writer.tensor("IntStorage", &shape, i32_bytes(counts));
    writer.text("average_utilization_rate_over_window").raw(b"Nu")
}

/// A recording of mode `stat` that is too large to be put together in memory; `step` fills in the
/// counts `[L, E]` of one step.
pub(in crate::import) fn write_large_stat(
    file: impl Write + Seek,
    shape: [i64; 3],
    mut step: impl FnMut(&mut [u8]),
) {
    let [steps, layers, experts] = shape;
    let mut writer = Writer::new().raw(b"}(").text("rank").int(0).text("logical_count");
    writer.storages.push(Vec::new());
    let writer = writer.view("IntStorage", steps * layers * experts, 0, &shape, None).raw(b"u.");
    let mut zip = ZipWriter::new(file);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file("archive/data.pkl", options).unwrap();
    zip.write_all(&writer.pickle).unwrap();
    zip.start_file("archive/data/0", options.large_file(true)).unwrap();
    let mut bytes = vec![0; usize::try_from(layers * experts * 4).unwrap()];
    for _ in 0..steps {
        step(&mut bytes);
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// One record of mode `per_pass`: pass, rank and counts.
pub(in crate::import) type PassRecord<'a> = (i64, i64, &'a [i32]);

/// A recording of mode `per_pass`; `map` and the counts are `[L, P]`.
pub(in crate::import) fn per_pass(
    shape: [i64; 2],
    map: &[i64],
    records: &[PassRecord<'_>],
) -> Writer {
    let mut writer = Writer::new().raw(b"}(").text("records").raw(b"](");
    for &(pass, rank, counts) in records {
        writer = writer.raw(b"}(").text("forward_pass_id").int(pass).text("rank").int(rank);
        writer = writer.text("gatherer_key").text("primary").text("global_physical_count");
        writer = writer.tensor("IntStorage", &shape, i32_bytes(counts)).raw(b"u");
    }
    let writer = writer.raw(b"e").text("last_physical_to_logical_map");
    writer.tensor("LongStorage", &shape, i64_bytes(map)).raw(b"u")
}
