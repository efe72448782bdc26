//! The host's own instructions for what is slow, or not constant-time, in portable code: a compiler does not find byte
//! and word instructions behind `u128`. Each function has a portable twin, and `None` says that it must be used.
//!
//! Rules for the unsafe code here:
//! 1. A function with `#[target_feature]` is called only after the same feature was detected on this very machine.
//! 2. No pointer, no memory: every function takes and returns values.

#![allow(unsafe_code, reason = "the host's vector instructions: see the rules above")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m128i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_movemask_epi8, _mm_set_epi64x, _mm_unpackhi_epi64,
};

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn vector(v: u128) -> __m128i {
    _mm_set_epi64x((v >> 64) as i64, v as i64)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn integer(v: __m128i) -> u128 {
    let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(v, v));
    u128::from(_mm_cvtsi128_si64(v) as u64) | u128::from(high as u64) << 64
}

/// `$run` with the operands, in a context that has the feature.
macro_rules! with_feature {
    ($feature:tt, ($($a:ident: $t:ty),*) -> $r:ty, $run:expr) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = $feature)]
            #[inline]
            fn run($($a: $t),*) -> $r {
                $run
            }
            // SAFETY: rule 1, the feature was detected just before (SSE2 is part of x86-64 itself).
            is_x86_feature_detected!($feature).then(|| unsafe { run($($a),*) })
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            $(let _ = $a;)*
            None
        }
    }};
}

macro_rules! instructions {
    ($($feature:tt: $($name:ident $intrinsic:ident),*;)*) => {$($(
        #[inline(always)]
        pub(super) fn $name(a: u128, b: u128) -> Option<u128> {
            with_feature!($feature, (a: u128, b: u128) -> u128,
                integer(std::arch::x86_64::$intrinsic(vector(a), vector(b))))
        }
    )*)*};
}

instructions! {
    "sse2": paddb _mm_add_epi8, psubb _mm_sub_epi8, paddw _mm_add_epi16, psubw _mm_sub_epi16, paddsb _mm_adds_epi8,
        paddsw _mm_adds_epi16, paddusb _mm_adds_epu8, paddusw _mm_adds_epu16, psubsb _mm_subs_epi8,
        psubsw _mm_subs_epi16, psubusb _mm_subs_epu8, psubusw _mm_subs_epu16, pavgb _mm_avg_epu8, pavgw _mm_avg_epu16,
        pminub _mm_min_epu8, pmaxub _mm_max_epu8, pminsw _mm_min_epi16, pmaxsw _mm_max_epi16, pcmpeqb _mm_cmpeq_epi8,
        pcmpeqw _mm_cmpeq_epi16, pcmpgtb _mm_cmpgt_epi8, pcmpgtw _mm_cmpgt_epi16, pmullw _mm_mullo_epi16,
        pmulhw _mm_mulhi_epi16, pmulhuw _mm_mulhi_epu16, pmaddwd _mm_madd_epi16, psadbw _mm_sad_epu8,
        punpcklbw _mm_unpacklo_epi8, punpckhbw _mm_unpackhi_epi8, punpcklwd _mm_unpacklo_epi16,
        punpckhwd _mm_unpackhi_epi16, packsswb _mm_packs_epi16, packuswb _mm_packus_epi16, packssdw _mm_packs_epi32;
    "ssse3": pshufb _mm_shuffle_epi8, pmaddubsw _mm_maddubs_epi16, pmulhrsw _mm_mulhrs_epi16, psignb _mm_sign_epi8,
        psignw _mm_sign_epi16;
    "sse4.1": packusdw _mm_packus_epi32, pminsb _mm_min_epi8, pmaxsb _mm_max_epi8, pminuw _mm_min_epu16,
        pmaxuw _mm_max_epu16;
    "aes": aesenc _mm_aesenc_si128, aesenclast _mm_aesenclast_si128, aesdec _mm_aesdec_si128,
        aesdeclast _mm_aesdeclast_si128;
}

#[inline(always)]
pub(super) fn pmovmskb(a: u128) -> Option<u32> {
    with_feature!("sse2", (a: u128) -> u32, _mm_movemask_epi8(vector(a)) as u32)
}

/// The carry-less product.
#[inline(always)]
pub(super) fn clmul(a: u64, b: u64) -> Option<u128> {
    with_feature!("pclmulqdq", (a: u64, b: u64) -> u128,
        integer(_mm_clmulepi64_si128::<0>(vector(a.into()), vector(b.into()))))
}
