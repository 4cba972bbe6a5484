use std::sync::Arc;
struct P;
impl dsimg_machine::Reporter for P {
    fn report(&self, _: &str, e: &dsimg_machine::Event) {
        if !matches!(e, dsimg_machine::Event::Progress { .. }) {
            eprintln!("{e:?}");
        }
    }
}
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let cache = std::path::PathBuf::from("/tmp/uvcache");
    std::fs::create_dir_all(&cache).unwrap();
    let run = dsimg_machine::RunContext {
        build_id: "t".into(),
        builder: "b".into(),
        cache: cache.clone(),
        work: cache.clone(),
        ledger: Arc::new(dsimg_machine::Ledger::open(&cache.join("l"), &format!("{}", std::process::id())).unwrap()),
        reporter: Arc::new(P),
        cancel: Default::default(),
        hurry: Default::default(),
    };
    let net = dsimg_template::template::Network::default();
    let t = std::time::Instant::now();
    match dsimg_build::tools::uv(&net, &dsimg_download::Access::from_network(&net), &cache, &run).await {
        Ok(p) => println!("{} {:?}", p.display(), t.elapsed()),
        Err(e) => println!("ERR {e}\n{:?}", e.hint()),
    }
}
