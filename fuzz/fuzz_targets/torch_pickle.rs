//! The pickle of a `torch.save` file, in an archive that is whole and has five storages.
#![no_main]

use std::io::{Cursor, Write};

use libfuzzer_sys::fuzz_target;
use moecast_fuzz::{TORCH, file, import, model};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fuzz_target!(|bytes: &[u8]| {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut add = |name: &str, content: &[u8]| {
        archive.start_file(format!("recording/{name}"), options).expect("an entry");
        archive.write_all(content).expect("its content");
    };
    add("data.pkl", bytes);
    add("byteorder", b"little");
    for storage in 0_u8..5 {
        add(&format!("data/{storage}"), &[storage; 256]);
    }
    add("version", b"3\n");
    let archive = archive.finish().expect("an archive").into_inner();
    let paths = [file("recording.pt", &archive)];
    for format in TORCH {
        import(format, &paths, Some(model()));
    }
});
