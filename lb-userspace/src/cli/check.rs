//! `limpet check`: what is wrong with a file, and what its names are just now.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::config::{Config, TargetName};
use crate::target::Resolver;

/// A resolver that is away must not hold up who only wants the file checked.
const PATIENCE: Duration = Duration::from_secs(5);

/// A file with names that have no answer is as good as any: the daemon starts with it.
pub(super) fn run(file: &Path) -> anyhow::Result<()> {
    let config = Config::load(file)?;
    let groups = &config.target_groups;
    let targets: usize = groups.iter().map(|group| group.targets.len()).sum();
    let names: usize = groups.iter().map(|group| group.names.len()).sum();
    let names = match names {
        0 => String::new(),
        names => format!(", {names} names of targets"),
    };
    println!(
        "ok: {} listeners, {} target groups, {targets} targets{names}",
        config.listeners.len(),
        groups.len()
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for line in runtime.block_on(answers(&config)) {
        println!("{line}");
    }
    Ok(())
}

async fn answers(config: &Config) -> Vec<String> {
    let resolver = Resolver::new(&config.resolver);
    let asked = config.target_groups.iter().flat_map(|group| {
        let (resolver, names) = (&resolver, group.names.iter());
        names.map(move |name| async move {
            let answer = answer(resolver, name).await;
            format!("{}: {} {answer}", group.name, name.question)
        })
    });
    join_all(asked).await
}

async fn answer(resolver: &Resolver, name: &TargetName) -> String {
    match timeout(PATIENCE, resolver.ask(name, &[])).await {
        Err(_) => format!("has no answer within {PATIENCE:?}"),
        Ok(Err(failure)) => format!("has no answer just now: {failure}"),
        Ok(Ok(answer)) => {
            let addresses = answer.targets.keys().map(ToString::to_string);
            let addresses: Vec<String> = addresses.collect();
            format!("is {} (TTL {:?})", addresses.join(", "), answer.ttl)
        }
    }
}
