use moecast_profiles::import::{Options, find};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let entry = find("aiconfigurator").unwrap();
    let options = Options {
        system: Some(args[2].clone()),
        engine: Some(args[3].clone()),
        version: args.get(4).cloned(),
    };
    let start = std::time::Instant::now();
    match (entry.read)(std::path::Path::new(&args[1]), &options) {
        Ok(s) => {
            println!("{:?} {} samples in {:?}", s.provenance, s.samples.len(), start.elapsed());
            let mut c = std::collections::BTreeMap::new();
            for x in &s.samples {
                *c.entry(x.family.name()).or_insert(0) += 1;
            }
            println!("{c:?}");
            for f in &s.flags {
                println!("  {f}");
            }
        }
        Err(e) => println!("ERR {e}"),
    }
    let st = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", st.lines().find(|l| l.starts_with("VmHWM")).unwrap());
}
