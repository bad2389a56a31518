//! Cookie headers as bytes: finding our pairs, hiding them from targets, and
//! keeping shared caches from storing a response that sets one.

use http::HeaderMap;
use http::header::{CACHE_CONTROL, COOKIE, Entry, HeaderValue, SET_COOKIE};

/// The values of every cookie called `name`, in the order they were sent.
pub(super) fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|header| pairs(header.as_bytes()))
        .filter_map(move |pair| value_of(pair, name))
}

/// Takes every cookie called `name` out of the request; what else there is
/// stays byte for byte.
pub(super) fn hide(headers: &mut HeaderMap, name: &str) {
    let Entry::Occupied(cookies) = headers.entry(COOKIE) else {
        return;
    };
    if !cookies.iter().any(|header| has(header, name)) {
        return;
    }
    let kept: Vec<HeaderValue> = cookies
        .iter()
        .filter_map(|header| without(header, name))
        .collect();
    cookies.remove_entry_mult();
    for header in kept {
        headers.append(COOKIE, header);
    }
}

/// Sets a cookie with a response, which no shared cache may store then.
pub(super) fn set(headers: &mut HeaderMap, cookie: HeaderValue) {
    headers.append(SET_COOKIE, cookie);
    forbid_shared_caching(headers);
}

/// Sees to it that no shared cache stores the response.
fn forbid_shared_caching(headers: &mut HeaderMap) {
    let directives: Vec<Vec<u8>> = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .flat_map(|header| header.as_bytes().split(|byte| *byte == b','))
        .map(|directive| directive.trim_ascii().to_vec())
        .filter(|directive| !directive.is_empty())
        .collect();
    let named = |name: &[u8]| {
        directives
            .iter()
            .any(|directive| directive.eq_ignore_ascii_case(name))
    };
    if named(b"private") || named(b"no-store") {
        return;
    }
    let mut kept: Vec<Vec<u8>> = directives
        .into_iter()
        .filter(|directive| !invites_shared_caches(directive))
        .collect();
    kept.push(b"private".to_vec());
    if let Ok(value) = HeaderValue::from_bytes(&kept.join(&b", "[..])) {
        headers.insert(CACHE_CONTROL, value);
    }
}

/// Directives that contradict `private`.
fn invites_shared_caches(directive: &[u8]) -> bool {
    let name = directive
        .split(|byte| *byte == b'=')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    name.eq_ignore_ascii_case(b"public") || name.eq_ignore_ascii_case(b"s-maxage")
}

/// What stands between semicolons.
fn pairs(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(header);
    std::iter::from_fn(move || {
        let left = rest?;
        let end = memchr::memchr(b';', left);
        rest = end.and_then(|end| left.get(end + 1..));
        left.get(..end.unwrap_or(left.len()))
    })
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let rest = pair.trim_ascii_start().strip_prefix(name.as_bytes())?;
    let value = rest.trim_ascii_start().strip_prefix(b"=")?;
    Some(value.trim_ascii())
}

fn has(header: &HeaderValue, name: &str) -> bool {
    pairs(header.as_bytes()).any(|pair| value_of(pair, name).is_some())
}

/// The header without our pairs; `None` when nothing is left.
fn without(header: &HeaderValue, name: &str) -> Option<HeaderValue> {
    if !has(header, name) {
        return Some(header.clone());
    }
    let mut kept = Vec::new();
    for pair in pairs(header.as_bytes()).filter(|pair| value_of(pair, name).is_none()) {
        if kept.is_empty() {
            kept.extend_from_slice(pair.trim_ascii_start());
        } else {
            kept.push(b';');
            kept.extend_from_slice(pair);
        }
    }
    if kept.trim_ascii().is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&kept).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(cookies: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(
                COOKIE,
                HeaderValue::from_bytes(cookie).expect("a header value"),
            );
        }
        headers
    }

    fn hidden(cookies: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut headers = request(cookies);
        hide(&mut headers, "LIMPET");
        headers
            .get_all(COOKIE)
            .iter()
            .map(|value| value.as_bytes().to_vec())
            .collect()
    }

    #[test]
    fn finds_all_of_the_name_in_order() {
        let headers = request(&[b"a=1; LIMPET=x;LIMPET=y", b"LIMPETS=z; LIMPET=w=="]);
        let found: Vec<&[u8]> = values(&headers, "LIMPET").collect();
        assert_eq!(found, [&b"x"[..], b"y", b"w=="]);
    }

    #[test]
    fn hides_ours_and_leaves_the_rest() {
        assert_eq!(hidden(&[b"LIMPET=x"]), Vec::<Vec<u8>>::new());
        assert_eq!(hidden(&[b"a=1; LIMPET=x; b=2"]), [b"a=1; b=2".to_vec()]);
        assert_eq!(hidden(&[b"LIMPET=x; b=2"]), [b"b=2".to_vec()]);
        assert_eq!(
            hidden(&[b"a=1", b"LIMPET=x", b"b=\xff"]),
            [b"a=1".to_vec(), b"b=\xff".to_vec()]
        );
        assert_eq!(hidden(&[b"a=1;  odd ;b"]), [b"a=1;  odd ;b".to_vec()]);
    }

    fn guarded(before: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in before {
            headers.append(CACHE_CONTROL, value.parse().expect("a header value"));
        }
        forbid_shared_caching(&mut headers);
        headers
            .get_all(CACHE_CONTROL)
            .iter()
            .map(|value| value.to_str().expect("text").to_owned())
            .collect()
    }

    #[test]
    fn keeps_shared_caches_off_and_private_ones_on() {
        assert_eq!(guarded(&[]), ["private"]);
        assert_eq!(guarded(&["max-age=60"]), ["max-age=60, private"]);
        assert_eq!(
            guarded(&["public, s-maxage=9", "max-age=60"]),
            ["max-age=60, private"]
        );
        assert_eq!(guarded(&["no-store"]), ["no-store"]);
        assert_eq!(guarded(&["Private"]), ["Private"]);
    }
}
