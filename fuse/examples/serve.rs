//! Measuring aid.
use std::io::Read;
use std::path::Path;
use treering_engine::operations::backup::{BackupOptions, backup};
use treering_engine::{CreateOptions, FileSource, Repository, SilentMonitor, Source};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args[1].as_str() {
        "init" => {
            let repo = Repository::create(Path::new(&args[2]), &CreateOptions::default()).unwrap();
            let src = Source::Image(Box::new(FileSource::open(Path::new(&args[3])).unwrap()));
            let t = std::time::Instant::now();
            backup(&repo, src, &BackupOptions { stream: "vm".into(), ..Default::default() }, &SilentMonitor).unwrap();
            eprintln!("backup {:?}", t.elapsed());
        }
        _ => {
            let repo = Repository::open(Path::new(&args[2]), 64 << 20).unwrap();
            let options = treering_fuse::MountOptions {
                threads: args.get(4).and_then(|n| n.parse().ok()),
                ..Default::default()
            };
            let t = std::time::Instant::now();
            let mount = treering_fuse::mount(&repo, Path::new(&args[3]), &options).unwrap();
            eprintln!("mounted in {:?}", t.elapsed());
            println!("ready");
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            mount.detacher().detach().unwrap();
            mount.wait().unwrap();
        }
    }
}
