//! The host's own instructions for what is slow, or not constant-time, in portable code.
//!
//! Rules for the unsafe code here:
//! 1. A function with `#[target_feature]` is called only after the same feature was detected on this very machine.
//! 2. No pointer, no memory: every function takes and returns values.

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::{
        __m128i, _mm_aesdec_si128, _mm_aesdeclast_si128, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_clmulepi64_si128,
        _mm_cvtsi128_si64, _mm_set_epi64x, _mm_unpackhi_epi64,
    };

    #[target_feature(enable = "sse2")]
    #[inline]
    fn vector(v: u128) -> __m128i {
        _mm_set_epi64x((v >> 64) as i64, v as i64)
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn integer(v: __m128i) -> u128 {
        let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(v, v));
        u128::from(_mm_cvtsi128_si64(v) as u64) | u128::from(high as u64) << 64
    }

    macro_rules! aes {
        ($($name:ident = $intrinsic:ident),*) => {$(
            #[inline]
            pub(in super::super) fn $name(state: u128, key: u128) -> Option<u128> {
                #[target_feature(enable = "aes")]
                #[inline]
                fn round(state: u128, key: u128) -> u128 {
                    integer($intrinsic(vector(state), vector(key)))
                }
                // SAFETY: rule 1, AES was detected just before.
                is_x86_feature_detected!("aes").then(|| unsafe { round(state, key) })
            }
        )*};
    }

    aes!(
        aesenc = _mm_aesenc_si128,
        aesenclast = _mm_aesenclast_si128,
        aesdec = _mm_aesdec_si128,
        aesdeclast = _mm_aesdeclast_si128
    );

    /// The carry-less product.
    #[inline]
    pub(in super::super) fn clmul(a: u64, b: u64) -> Option<u128> {
        #[target_feature(enable = "pclmulqdq")]
        #[inline]
        fn product(a: u64, b: u64) -> u128 {
            integer(_mm_clmulepi64_si128::<0>(vector(a.into()), vector(b.into())))
        }
        // SAFETY: rule 1, PCLMULQDQ was detected just before.
        is_x86_feature_detected!("pclmulqdq").then(|| unsafe { product(a, b) })
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod x86_64 {
    pub(in super::super) fn aesenc(_: u128, _: u128) -> Option<u128> {
        None
    }

    pub(in super::super) fn aesenclast(_: u128, _: u128) -> Option<u128> {
        None
    }

    pub(in super::super) fn aesdec(_: u128, _: u128) -> Option<u128> {
        None
    }

    pub(in super::super) fn aesdeclast(_: u128, _: u128) -> Option<u128> {
        None
    }

    pub(in super::super) fn clmul(_: u64, _: u64) -> Option<u128> {
        None
    }
}

pub(super) use x86_64::*;
