//! Running the binary in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A scratch folder with the moecast binary at hand.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
}

/// What a command answered.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The words of a command line.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').enumerate().flat_map(|(index, part)| {
        let quoted = (index % 2 == 1).then_some(part);
        let plain = (index % 2 == 0).then(|| part.split_whitespace());
        quoted.into_iter().chain(plain.into_iter().flatten())
    })
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Runs moecast with the words of `line`; what stands between double quotes is one word.
    pub(crate) fn run(&self, line: &str) -> Answer {
        let output = Command::new(env!("CARGO_BIN_EXE_moecast"))
            .args(words(line))
            .current_dir(self.folder.path())
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        Answer {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed.
    pub(crate) fn ok(&self, line: &str) -> String {
        let answer = self.run(line);
        assert_eq!(answer.code, 0, "moecast {line}: {}", answer.stderr);
        answer.stdout
    }

    /// Runs a command that must succeed with JSON.
    pub(crate) fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --json"))).unwrap()
    }

    /// Every file below the folder with its bytes, sorted by name.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(self.folder.path()).unwrap().to_path_buf();
                    files.push((name, std::fs::read(&path).unwrap()));
                }
            }
        }
        files.sort();
        files
    }
}

/// A recording that lies beside the checkout; a plain clone does not have it, and says so.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn recording(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/traces").join(name);
    if !path.exists() {
        println!("skipped: {name} is not here (third-party recordings are not in the repository)");
        return None;
    }
    Some(path)
}

/// One line of JSON per token: `tokens` tokens of a tiny model with `layers` layers of `experts`
/// experts, top-2, whose popular experts change slowly.
pub(crate) fn tiny_recording(tokens: u32, layers: u32, experts: u32) -> String {
    let mut state = 12_345_u64;
    let mut draw = |below: u32| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((state >> 33) % u64::from(below)).unwrap()
    };
    let mut text = String::new();
    for token in 1..=tokens {
        let rows: Vec<String> = (0..layers)
            .map(|layer| {
                // The smaller of two draws: low ids are popular, each layer counts from its own.
                let first = (draw(experts).min(draw(experts)) + 3 * layer) % experts;
                let second = (first + 1 + draw(experts - 1)) % experts;
                format!("[{}, {}]", first.min(second), first.max(second))
            })
            .collect();
        text += &format!("{{\"tok\": {token}, \"layers\": [{}]}}\n", rows.join(", "));
    }
    text
}

/// A `config.json` for [`tiny_recording`].
pub(crate) fn tiny_config(layers: u32, experts: u32) -> String {
    format!(
        "{{\"architectures\": [\"OlmoeForCausalLM\"], \"model_type\": \"olmoe\", \
         \"hidden_size\": 256, \"num_hidden_layers\": {layers}, \"num_experts\": {experts}, \
         \"num_experts_per_tok\": 2, \"intermediate_size\": 128, \"num_attention_heads\": 4, \
         \"num_key_value_heads\": 4, \"vocab_size\": 1000, \"torch_dtype\": \"bfloat16\"}}"
    )
}
