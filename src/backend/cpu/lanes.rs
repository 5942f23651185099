//! Vectors of 128 bits as the kernels use them: four 32-bit lanes, seen as integers or floats, or eight of 16 bits. One set
//! of names for WebAssembly's `simd128` and for SSE2, which every x86-64 processor has: so native tests run the very kernels
//! that run in the browser. Everywhere else they are arrays, for the compiler to make of what it can.
//!
//! Chosen when the crate is compiled, by `target_feature`, for a WebAssembly module is validated as a whole: one that
//! holds a single instruction which the engine does not know does not load, so there is nothing to detect at run time.
//! The page picks among builds.

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128"))))]
pub use portable::*;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use wasm::*;
#[cfg(target_arch = "x86_64")]
pub use x86::*;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use core::arch::wasm32::*;

    /// A vector.
    pub type Lanes = v128;

    /// Sixteen bytes from anywhere.
    #[inline(always)]
    pub unsafe fn load(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for 16 bytes at `at`; v128.load needs no alignment.
        unsafe { v128_load(at.cast()) }
    }

    /// The four bytes at `at` in every lane.
    #[inline(always)]
    pub unsafe fn load_splat<E>(at: *const E) -> Lanes {
        // SAFETY: the caller vouches for four bytes at `at`.
        unsafe { v128_load32_splat(at.cast()) }
    }

    /// Four halves as floats divided by 2¹¹² (see [`super::HALF_SCALE`]).
    #[inline(always)]
    pub unsafe fn load_halves(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for eight bytes at `at`.
        let halves = unsafe { i32x4_load_extend_i16x4(at.cast()) };
        v128_and(i32x4_shl(halves, 13), u32x4_splat(0x8fff_e000))
    }

    /// Four 16-bit brain floats as floats.
    #[inline(always)]
    pub unsafe fn load_brain_floats(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for eight bytes at `at`.
        let bits = unsafe { i32x4_load_extend_i16x4(at.cast()) };
        i32x4_shl(bits, 16)
    }

    /// Four unsigned bytes.
    #[inline(always)]
    pub unsafe fn load_bytes(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for four bytes at `at`.
        let bytes = unsafe { v128_load32_zero(at.cast()) };
        u32x4_extend_low_u16x8(u16x8_extend_low_u8x16(bytes))
    }

    /// Eight signed bytes as 16-bit lanes.
    #[inline(always)]
    pub unsafe fn load_bytes_signed_16(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for eight bytes at `at`.
        unsafe { i16x8_load_extend_i8x8(at.cast()) }
    }

    /// Four signed bytes as floats.
    #[inline(always)]
    pub unsafe fn load_signed_bytes(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for four bytes at `at`.
        let bytes = unsafe { v128_load32_zero(at.cast()) };
        f32x4_convert_i32x4(i32x4_extend_low_i16x8(i16x8_extend_low_i8x16(bytes)))
    }

    /// The lanes in order of their index.
    #[inline(always)]
    pub unsafe fn store(to: *mut f32, x: Lanes) {
        // SAFETY: the caller vouches for 16 writable bytes at `to`.
        unsafe { v128_store(to.cast(), x) }
    }

    #[inline(always)]
    pub fn splat(x: i32) -> Lanes {
        i32x4_splat(x)
    }

    #[inline(always)]
    pub fn splat_float(x: f32) -> Lanes {
        f32x4_splat(x)
    }

    #[inline(always)]
    pub fn and(x: Lanes, y: Lanes) -> Lanes {
        v128_and(x, y)
    }

    #[inline(always)]
    pub fn or(x: Lanes, y: Lanes) -> Lanes {
        v128_or(x, y)
    }

    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    pub fn xor(x: Lanes, y: Lanes) -> Lanes {
        v128_xor(x, y)
    }

    /// `x << N` in 16-bit lanes.
    #[inline(always)]
    pub fn shl_16<const N: u32>(x: Lanes) -> Lanes {
        u16x8_shl(x, N)
    }

    /// `x >> N` in 16-bit lanes, unsigned.
    #[inline(always)]
    pub fn shr_16<const N: u32>(x: Lanes) -> Lanes {
        u16x8_shr(x, N)
    }

    /// `x << N` in 32-bit lanes.
    #[inline(always)]
    pub fn shl<const N: u32>(x: Lanes) -> Lanes {
        i32x4_shl(x, N)
    }

    /// `x >> N` in 32-bit lanes, signed.
    #[inline(always)]
    pub fn shr_signed<const N: u32>(x: Lanes) -> Lanes {
        i32x4_shr(x, N)
    }

    /// `table[x]` for each byte of `x`, from 0 to 15.
    #[inline(always)]
    pub fn lookup(table: &[u8; 16], x: Lanes) -> Lanes {
        // SAFETY: the table is 16 bytes long.
        i8x16_swizzle(unsafe { load(table.as_ptr()) }, x)
    }

    /// Sums of two neighbouring products of signed 16-bit lanes.
    #[inline(always)]
    pub fn dot(x: Lanes, y: Lanes) -> Lanes {
        i32x4_dot_i16x8(x, y)
    }

    #[inline(always)]
    pub fn add(x: Lanes, y: Lanes) -> Lanes {
        i32x4_add(x, y)
    }

    #[inline(always)]
    pub fn sub(x: Lanes, y: Lanes) -> Lanes {
        i32x4_sub(x, y)
    }

    #[inline(always)]
    pub fn to_float(x: Lanes) -> Lanes {
        f32x4_convert_i32x4(x)
    }

    #[inline(always)]
    pub fn mul_float(x: Lanes, y: Lanes) -> Lanes {
        f32x4_mul(x, y)
    }

    /// `x y + z`, rounded once or twice.
    #[inline(always)]
    pub fn mul_add_float(x: Lanes, y: Lanes, z: Lanes) -> Lanes {
        #[cfg(target_feature = "relaxed-simd")]
        return f32x4_relaxed_madd(x, y, z);
        #[cfg(not(target_feature = "relaxed-simd"))]
        f32x4_add(f32x4_mul(x, y), z)
    }

    #[inline(always)]
    pub fn add_float(x: Lanes, y: Lanes) -> Lanes {
        f32x4_add(x, y)
    }

    /// `z` plus, in each 32-bit lane, the four products of signed bytes of `x` with bytes of `y` from 0 to 127. In this
    /// order of operands: what engines do when the top bit of the second is set differs, and only there.
    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    pub fn dot_bytes_add(x: Lanes, y: Lanes, z: Lanes) -> Lanes {
        i32x4_relaxed_dot_i8x16_i7x16_add(x, y, z)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(clippy::missing_const_for_fn, reason = "intrinsics")]
    use core::arch::x86_64::*;

    /// A vector.
    pub type Lanes = __m128i;

    /// Sixteen bytes from anywhere.
    #[inline(always)]
    pub unsafe fn load(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for 16 bytes at `at`; loadu needs no alignment.
        unsafe { _mm_loadu_si128(at.cast()) }
    }

    /// The four bytes at `at` in every lane.
    #[inline(always)]
    pub unsafe fn load_splat<E>(at: *const E) -> Lanes {
        // SAFETY: the caller vouches for four bytes at `at`.
        splat(unsafe { at.cast::<i32>().read_unaligned() })
    }

    /// Four halves as floats divided by 2¹¹² (see [`super::HALF_SCALE`]).
    #[inline(always)]
    pub unsafe fn load_halves(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for eight bytes at `at`; the rest is SSE2.
        unsafe {
            let halves = _mm_loadl_epi64(at.cast());
            let wide = _mm_srai_epi32::<3>(_mm_unpacklo_epi16(_mm_setzero_si128(), halves));
            _mm_and_si128(wide, _mm_set1_epi32(0x8fff_e000_u32 as i32))
        }
    }

    /// Four 16-bit brain floats as floats.
    #[inline(always)]
    pub unsafe fn load_brain_floats(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for eight bytes at `at`; the rest is SSE2.
        unsafe { _mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64(at.cast())) }
    }

    /// Four unsigned bytes.
    #[inline(always)]
    pub unsafe fn load_bytes(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for four bytes at `at`; the rest is SSE2.
        unsafe {
            let bytes = _mm_cvtsi32_si128(at.cast::<i32>().read_unaligned());
            let zero = _mm_setzero_si128();
            _mm_unpacklo_epi16(_mm_unpacklo_epi8(bytes, zero), zero)
        }
    }

    /// Eight signed bytes as 16-bit lanes.
    #[inline(always)]
    pub unsafe fn load_bytes_signed_16(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for eight bytes at `at`; the rest is SSE2.
        unsafe {
            let bytes = _mm_loadl_epi64(at.cast());
            _mm_srai_epi16::<8>(_mm_unpacklo_epi8(bytes, bytes))
        }
    }

    /// Four signed bytes as floats.
    #[inline(always)]
    pub unsafe fn load_signed_bytes(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for four bytes at `at`; the rest is SSE2.
        unsafe {
            let bytes = _mm_cvtsi32_si128(at.cast::<i32>().read_unaligned());
            let pairs = _mm_unpacklo_epi8(bytes, bytes);
            to_float(_mm_srai_epi32::<24>(_mm_unpacklo_epi16(pairs, pairs)))
        }
    }

    /// The lanes in order of their index.
    #[inline(always)]
    pub unsafe fn store(to: *mut f32, x: Lanes) {
        // SAFETY: the caller vouches for 16 writable bytes at `to`.
        unsafe { _mm_storeu_si128(to.cast(), x) }
    }

    /// `table[x]` for each byte of `x`, from 0 to 15. SSE2 has no instruction for it.
    #[inline(always)]
    pub fn lookup(table: &[u8; 16], x: Lanes) -> Lanes {
        // SAFETY: a vector is sixteen bytes, of which all values are valid.
        unsafe {
            let bytes: [u8; 16] = std::mem::transmute(x);
            std::mem::transmute(bytes.map(|x| table[usize::from(x & 15)]))
        }
    }

    /// Defines functions of one SSE2 instruction or two.
    macro_rules! ops {
        ($($(#[$doc:meta])* $name:ident $(<const $n:ident>)? ($($x:ident : $t:ty),*) = $body:expr;)*) => {
            $($(#[$doc])*
            #[inline(always)]
            pub fn $name $(<const $n: u32>)? ($($x: $t),*) -> Lanes {
                // SAFETY: every x86-64 processor has SSE2.
                #[allow(unused_unsafe, reason = "some intrinsics are safe where SSE2 is a given")]
                unsafe { $body }
            })*
        };
    }

    /// A vector as floats.
    #[inline(always)]
    fn f(x: Lanes) -> __m128 {
        // SAFETY: every x86-64 processor has SSE2.
        #[allow(unused_unsafe, reason = "safe where SSE2 is a given")]
        unsafe {
            _mm_castsi128_ps(x)
        }
    }

    ops! {
        splat(x: i32) = _mm_set1_epi32(x);
        splat_float(x: f32) = _mm_castps_si128(_mm_set1_ps(x));
        and(x: Lanes, y: Lanes) = _mm_and_si128(x, y);
        or(x: Lanes, y: Lanes) = _mm_or_si128(x, y);
        /// `x << N` in 16-bit lanes.
        shl_16<const N>(x: Lanes) = _mm_sll_epi16(x, _mm_cvtsi32_si128(N as i32));
        /// `x >> N` in 16-bit lanes, unsigned.
        shr_16<const N>(x: Lanes) = _mm_srl_epi16(x, _mm_cvtsi32_si128(N as i32));
        /// `x << N` in 32-bit lanes.
        shl<const N>(x: Lanes) = _mm_sll_epi32(x, _mm_cvtsi32_si128(N as i32));
        /// `x >> N` in 32-bit lanes, signed.
        shr_signed<const N>(x: Lanes) = _mm_sra_epi32(x, _mm_cvtsi32_si128(N as i32));
        /// Sums of two neighbouring products of signed 16-bit lanes.
        dot(x: Lanes, y: Lanes) = _mm_madd_epi16(x, y);
        add(x: Lanes, y: Lanes) = _mm_add_epi32(x, y);
        sub(x: Lanes, y: Lanes) = _mm_sub_epi32(x, y);
        to_float(x: Lanes) = _mm_castps_si128(_mm_cvtepi32_ps(x));
        mul_float(x: Lanes, y: Lanes) = _mm_castps_si128(_mm_mul_ps(f(x), f(y)));
        /// `x y + z`
        mul_add_float(x: Lanes, y: Lanes, z: Lanes) = _mm_castps_si128(_mm_add_ps(_mm_mul_ps(f(x), f(y)), f(z)));
        add_float(x: Lanes, y: Lanes) = _mm_castps_si128(_mm_add_ps(f(x), f(y)));
    }
}

/// Four lanes of 32 bits as an array.
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128"))))]
mod portable {
    /// A vector.
    pub type Lanes = [u32; 4];

    #[inline(always)]
    fn each(x: Lanes, y: Lanes, f: impl Fn(u32, u32) -> u32) -> Lanes {
        std::array::from_fn(|i| f(x[i], y[i]))
    }

    /// Both 16-bit lanes of each 32-bit one.
    #[inline(always)]
    fn each_16(x: Lanes, f: impl Fn(u16) -> u16) -> Lanes {
        x.map(|x| u32::from(f(x as u16)) | u32::from(f((x >> 16) as u16)) << 16)
    }

    /// Sixteen bytes from anywhere.
    #[inline(always)]
    pub unsafe fn load(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for 16 bytes at `at`.
        unsafe { at.cast::<[[u8; 4]; 4]>().read_unaligned() }.map(u32::from_le_bytes)
    }

    /// The four bytes at `at` in every lane.
    #[inline(always)]
    pub unsafe fn load_splat<E>(at: *const E) -> Lanes {
        // SAFETY: the caller vouches for four bytes at `at`.
        [unsafe { at.cast::<u32>().read_unaligned() }; 4]
    }

    /// Four halves as floats divided by 2¹¹² (see [`super::HALF_SCALE`]).
    #[inline(always)]
    pub unsafe fn load_halves(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for eight bytes at `at`.
        let halves = unsafe { at.cast::<[[u8; 2]; 4]>().read_unaligned() };
        halves.map(|half| ((i32::from(i16::from_le_bytes(half)) << 13) as u32) & 0x8fff_e000)
    }

    /// Four 16-bit brain floats as floats.
    #[inline(always)]
    pub unsafe fn load_brain_floats(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for eight bytes at `at`.
        unsafe { at.cast::<[[u8; 2]; 4]>().read_unaligned() }.map(|bits| u32::from(u16::from_le_bytes(bits)) << 16)
    }

    /// Four unsigned bytes.
    #[inline(always)]
    pub unsafe fn load_bytes(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for four bytes at `at`.
        unsafe { at.cast::<[u8; 4]>().read_unaligned() }.map(u32::from)
    }

    /// Eight signed bytes as 16-bit lanes.
    #[inline(always)]
    pub unsafe fn load_bytes_signed_16(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for eight bytes at `at`.
        let pairs = unsafe { at.cast::<[[i8; 2]; 4]>().read_unaligned() };
        pairs.map(|pair| u32::from(i16::from(pair[0]) as u16) | u32::from(i16::from(pair[1]) as u16) << 16)
    }

    /// Four signed bytes as floats.
    #[inline(always)]
    pub unsafe fn load_signed_bytes(at: *const u8) -> Lanes {
        // SAFETY: the caller vouches for four bytes at `at`.
        unsafe { at.cast::<[i8; 4]>().read_unaligned() }.map(|x| f32::from(x).to_bits())
    }

    /// The lanes in order of their index.
    #[inline(always)]
    pub unsafe fn store(to: *mut f32, x: Lanes) {
        // SAFETY: the caller vouches for 16 writable bytes at `to`.
        unsafe { to.cast::<Lanes>().write_unaligned(x) }
    }

    #[inline(always)]
    pub fn splat(x: i32) -> Lanes {
        [x as u32; 4]
    }

    #[inline(always)]
    pub fn splat_float(x: f32) -> Lanes {
        [x.to_bits(); 4]
    }

    #[inline(always)]
    pub fn and(x: Lanes, y: Lanes) -> Lanes {
        each(x, y, |x, y| x & y)
    }

    #[inline(always)]
    pub fn or(x: Lanes, y: Lanes) -> Lanes {
        each(x, y, |x, y| x | y)
    }

    /// `x << N` in 16-bit lanes.
    #[inline(always)]
    pub fn shl_16<const N: u32>(x: Lanes) -> Lanes {
        each_16(x, |x| x << N)
    }

    /// `x >> N` in 16-bit lanes, unsigned.
    #[inline(always)]
    pub fn shr_16<const N: u32>(x: Lanes) -> Lanes {
        each_16(x, |x| x >> N)
    }

    /// `x << N` in 32-bit lanes.
    #[inline(always)]
    pub fn shl<const N: u32>(x: Lanes) -> Lanes {
        x.map(|x| x << N)
    }

    /// `x >> N` in 32-bit lanes, signed.
    #[inline(always)]
    pub fn shr_signed<const N: u32>(x: Lanes) -> Lanes {
        x.map(|x| (x.cast_signed() >> N).cast_unsigned())
    }

    /// `table[x]` for each byte of `x`, from 0 to 15.
    #[inline(always)]
    pub fn lookup(table: &[u8; 16], x: Lanes) -> Lanes {
        x.map(|x| u32::from_le_bytes(x.to_le_bytes().map(|x| table[usize::from(x & 15)])))
    }

    /// Sums of two neighbouring products of signed 16-bit lanes.
    #[inline(always)]
    pub fn dot(x: Lanes, y: Lanes) -> Lanes {
        let product = |x: u32, y: u32| i32::from(x as i16) * i32::from(y as i16);
        each(x, y, |x, y| product(x, y).wrapping_add(product(x >> 16, y >> 16)) as u32)
    }

    #[inline(always)]
    pub fn add(x: Lanes, y: Lanes) -> Lanes {
        each(x, y, u32::wrapping_add)
    }

    #[inline(always)]
    pub fn sub(x: Lanes, y: Lanes) -> Lanes {
        each(x, y, u32::wrapping_sub)
    }

    #[inline(always)]
    pub fn to_float(x: Lanes) -> Lanes {
        x.map(|x| (x as i32 as f32).to_bits())
    }

    #[inline(always)]
    pub fn mul_float(x: Lanes, y: Lanes) -> Lanes {
        each(x, y, |x, y| (f32::from_bits(x) * f32::from_bits(y)).to_bits())
    }

    /// `x y + z`
    #[inline(always)]
    pub fn mul_add_float(x: Lanes, y: Lanes, z: Lanes) -> Lanes {
        add_float(mul_float(x, y), z)
    }

    #[inline(always)]
    pub fn add_float(x: Lanes, y: Lanes) -> Lanes {
        each(x, y, |x, y| (f32::from_bits(x) + f32::from_bits(y)).to_bits())
    }
}

/// What the results of [`load_halves`] must be multiplied by: moving a half's bits to where a float has them leaves the
/// exponent 112 too small. Kernels multiply by it once at the end, not once per scale.
pub const HALF_SCALE: f32 = f32::from_bits((127 + 112) << 23);
