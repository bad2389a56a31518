//! Serial-number arithmetic on sequence numbers and timestamps (RFC 1982,
//! RFC 9293 section 3.4): only the distance modulo 2^32 means anything.

/// Whether `a` lies after `b`.
#[inline(always)]
pub const fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        assert!(after(5, u32::MAX - 5));
        assert!(!after(u32::MAX - 5, 5));
        assert!(!after(7, 7));
    }
}
