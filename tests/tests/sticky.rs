//! Proves stickiness: a first answer sets a sealed cookie, whoever sends it back
//! comes to the same target every time, and a cookie nobody sealed is no error.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use lb_tests::client::{cookie_of, who};
use lb_tests::scene::play;

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_is_opaque_and_well_attributed() -> Result<()> {
    play("off", async |scene| {
        let answer = scene.client.get("/", None).await?;
        let whole = answer.head.get("set-cookie").context("no cookie")?;
        let mut attributes = whole.split("; ");
        let (name, value) = attributes
            .next()
            .and_then(|pair| pair.split_once('='))
            .context("=")?;
        ensure!(name == "LIMPET" && value.len() < 100, "{whole}");
        ensure!(
            !value.contains("10.71") && !value.contains("8080"),
            "an address in {whole}"
        );
        let attributes: HashSet<_> = attributes.map(str::to_ascii_lowercase).collect();
        for wanted in ["path=/", "httponly", "samesite=lax", "max-age=86400"] {
            ensure!(attributes.contains(wanted), "no {wanted} in {whole}");
        }
        ensure!(
            !attributes.contains("secure"),
            "a plain listener cannot promise {whole}"
        );
        let shared = answer.head.get("cache-control").unwrap_or_default();
        ensure!(
            shared.contains("private")
                || shared.contains("no-cache")
                || shared.contains("no-store"),
            "a shared cache may hand this cookie to others: {shared:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_of_twenty_requests_reach_the_same_target() -> Result<()> {
    play("off", async |scene| {
        let first = scene.client.get("/", None).await?;
        let cookie = first.cookie().context("no cookie")?;
        for _ in 0..20 {
            let answer = scene.client.get("/", Some(&cookie)).await?;
            ensure!(
                answer.body == first.body,
                "{} instead of {}",
                answer.body,
                first.body
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_cookie_are_spread() -> Result<()> {
    play("off", async |scene| {
        let mut counts = std::collections::BTreeMap::<_, usize>::new();
        for _ in 0..30 {
            *counts
                .entry(scene.client.get("/", None).await?.body)
                .or_default() += 1;
        }
        ensure!(
            counts.len() == 3 && counts.values().all(|count| *count == 10),
            "{counts:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_goes_where_the_cookie_says() -> Result<()> {
    play("auto", async |scene| {
        for _ in 0..6 {
            let first = scene.client.get("/", None).await?;
            let (mut socket, _) = scene
                .client
                .web_socket("/ws", first.cookie().as_deref())
                .await?;
            ensure!(
                who(&mut socket).await? == first.body,
                "not on {}",
                first.body
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_can_start_with_the_web_socket() -> Result<()> {
    play("auto", async |scene| {
        let (mut socket, headers) = scene.client.web_socket("/ws", None).await?;
        let values = headers
            .get_all("set-cookie")
            .iter()
            .flat_map(|value| value.to_str());
        let cookie = cookie_of(values).context("no cookie with the 101")?;
        let answer = scene.client.get("/", Some(&cookie)).await?;
        ensure!(
            who(&mut socket).await? == answer.body,
            "not on {}",
            answer.body
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_cookie_gets_a_fresh_one() -> Result<()> {
    play("off", async |scene| {
        let cookie = scene
            .client
            .get("/", None)
            .await?
            .cookie()
            .context("no cookie")?;
        let (name, value) = cookie.split_once('=').context("=")?;
        let other = if value.starts_with('A') { 'B' } else { 'A' };
        let flipped = format!("{name}={other}{}", &value[1..]);
        for bad in [
            flipped.as_str(),
            "LIMPET=",
            "LIMPET=nonsense",
            "LIMPET=%00%ff;;;=",
        ] {
            let answer = scene.client.get("/", Some(bad)).await?;
            ensure!(answer.status == 200, "{bad}: {}", answer.status);
            let fresh = answer
                .cookie()
                .with_context(|| format!("{bad}: no fresh cookie"))?;
            let again = scene.client.get("/", Some(&fresh)).await?;
            ensure!(
                again.body == answer.body,
                "{bad}: the fresh cookie does not stick"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_never_see_it() -> Result<()> {
    play("off", async |scene| {
        let cookie = scene
            .client
            .get("/", None)
            .await?
            .cookie()
            .context("no cookie")?;
        let mixed = format!("theirs=1; {cookie}; more=2");
        let seen = scene
            .client
            .get("/head", Some(&mixed))
            .await?
            .body
            .to_lowercase();
        ensure!(!seen.contains("limpet="), "{seen}");
        ensure!(
            seen.contains("theirs=1") && seen.contains("more=2"),
            "{seen}"
        );
        Ok(())
    })
    .await
}
