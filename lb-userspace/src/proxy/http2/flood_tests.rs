//! Clients that mean harm: what reaches the target is bounded, and they are sent away
//! with a GOAWAY that says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use h2::Reason;
use tokio::io::AsyncReadExt;

use super::lab::{self, CONTINUATION, DATA, RST_STREAM, Raw, WINDOW_UPDATE, frame};
use crate::proxy::tls_lab::{Lab, head};

const HOUR: Duration = Duration::from_secs(3600);
/// Frames that no honest client sends; each flood is over long before.
const MANY: u32 = 2_000;
/// What `conduct` bears, with those that were begun before it had its way.
const BORNE: usize = 100 + 128;

/// Targets that never answer, and count what they are asked.
fn silent_targets(lab: Lab) -> (Arc<Lab>, Arc<AtomicUsize>) {
    let (lab, asked) = (Arc::new(lab), Arc::new(AtomicUsize::new(0)));
    let (targets, count) = (lab.clone(), asked.clone());
    tokio::spawn(async move {
        while let Ok((mut target, _)) = targets.targets.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let _ = target.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    (lab, asked)
}

fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

async fn counted(lab: &Lab) {
    let line = r#"limpet_rejected_total{listener="secure",reason="http2_flood"} 1"#;
    lab.counted(line).await;
}

#[tokio::test]
async fn requests_reset_in_one_breath_reach_no_target() {
    let (lab, asked) = silent_targets(Lab::new(HOUR).await);
    let mut raw = Raw::new(&lab, &[]).await;
    let flood: Vec<u8> = (0..MANY)
        .flat_map(|number| [lab::request(2 * number + 1), cancel(2 * number + 1)])
        .flatten()
        .collect();
    raw.writer.send(&flood).await;
    assert_eq!(raw.reader.end().await, Some(Reason::ENHANCE_YOUR_CALM));
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked <= BORNE, "{asked} requests reached the target");
    counted(&lab).await;
}

#[tokio::test]
async fn requests_reset_once_the_target_has_them_are_bounded() {
    let lab = Lab::new(HOUR).await;
    let Raw { mut writer, reader } = Raw::new(&lab, &[]).await;
    let mut ended = tokio::spawn(reader.end());
    let mut asked = 0;
    for number in 0..MANY {
        writer.send(&lab::request(2 * number + 1)).await;
        let accepted = tokio::select! {
            accepted = lab.targets.accept() => accepted,
            reason = &mut ended => {
                assert_eq!(reason.expect("no panic"), Some(Reason::ENHANCE_YOUR_CALM));
                break;
            }
        };
        let (mut target, _) = accepted.expect("accepted");
        head(&mut target).await;
        asked += 1;
        writer.send(&cancel(2 * number + 1)).await;
        // Taken back from the target too.
        assert_eq!(target.read(&mut [0; 1]).await.expect("an end"), 0);
    }
    assert!(asked <= BORNE, "{asked} requests reached the target");
    counted(&lab).await;
}

#[tokio::test]
async fn streams_that_we_are_made_to_reset_are_bounded() {
    let (lab, asked) = silent_targets(Lab::new(HOUR).await);
    let mut raw = Raw::new(&lab, &[]).await;
    let mut reset = 0;
    for number in 0..MANY {
        let stream = 2 * number + 1;
        raw.writer.send(&lab::request(stream)).await;
        // A window that grows beyond all bounds is an error of its stream
        // (CVE-2025-8671).
        let too_much = 0x7fff_ffff_u32.to_be_bytes();
        raw.writer
            .send(&frame(WINDOW_UPDATE, 0, stream, &too_much))
            .await;
        match raw.reader.next().await {
            Some(frame) if frame.kind == RST_STREAM => reset += 1,
            Some(frame) if frame.kind == lab::GOAWAY => {
                assert_eq!(frame.reason(), Reason::ENHANCE_YOUR_CALM);
                break;
            }
            Some(_) => {}
            None => panic!("no GOAWAY after {reset} resets"),
        }
    }
    raw.reader.end().await;
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked <= BORNE, "{asked} requests reached the target");
    counted(&lab).await;
}

#[tokio::test]
async fn headers_without_end_are_bounded() {
    let (lab, asked) = silent_targets(Lab::new(HOUR).await);
    let mut raw = Raw::new(&lab, &[]).await;
    raw.writer.send(&lab::unfinished(1)).await;
    // A literal field with the name and the value "x".
    let field = b"\x00\x01x\x01x";
    let flood = frame(CONTINUATION, 0, 1, field).repeat(MANY as usize);
    raw.writer.send(&flood).await;
    assert_eq!(raw.reader.end().await, Some(Reason::ENHANCE_YOUR_CALM));
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    counted(&lab).await;
}

#[tokio::test]
async fn data_without_bytes_is_bounded() {
    let (lab, _) = silent_targets(Lab::new(HOUR).await);
    let mut raw = Raw::new(&lab, &[]).await;
    raw.writer.send(&lab::upload(1)).await;
    raw.writer
        .send(&frame(DATA, 0, 1, &[]).repeat(MANY as usize))
        .await;
    assert_eq!(raw.reader.end().await, Some(Reason::ENHANCE_YOUR_CALM));
    counted(&lab).await;
}
