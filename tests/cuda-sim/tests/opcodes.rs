//! Opcodes one by one: PTX in, bits out.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::HashMap;

use cuda_sim::machine::{Allocation, Grid, Memory, Order, launch};
use cuda_sim::program::{DecodeError, Kernel, Symbols, decode};
use cuda_sim::ptx::parse;

fn kernel(instruction: &str, result: &str) -> Result<Kernel, DecodeError> {
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out) {{
        .reg .b64 %x<20>; .reg .b32 %r<20>; .reg .b16 %h<20>; .reg .pred %p<9>;
        ld.param.u64 %x10, [in]; ld.param.u64 %x11, [out];
        ld.global.b64 %x1, [%x10]; ld.global.b64 %x2, [%x10+8]; ld.global.b64 %x3, [%x10+16];
        cvt.u32.u64 %r1, %x1; cvt.u32.u64 %r2, %x2; cvt.u32.u64 %r3, %x3;
        cvt.u16.u64 %h1, %x1; cvt.u16.u64 %h2, %x2; cvt.u16.u64 %h3, %x3;
        mov.b64 %x0, 0; st.global.b64 [%x11], %x0;
        {instruction}
        st.global.{result}; ret; }}"
    );
    let module = parse(&text).unwrap();
    let symbols = Symbols { functions: HashMap::new(), addresses: HashMap::new(), shared: HashMap::new() };
    decode(&module.functions[0], &symbols)
}

fn run(instruction: &str, result: &str, inputs: [u64; 3]) -> u64 {
    let kernel = kernel(instruction, result).unwrap();
    let mut memory = Memory::default();
    let allocation = Allocation { bytes: 24, device: 0, writable: true, pinned: false };
    let (from, to) = (memory.allocate(allocation).unwrap(), memory.allocate(allocation).unwrap());
    memory.write(from, &inputs.map(u64::to_le_bytes).concat()).unwrap();
    let arguments = [from.to_le_bytes(), to.to_le_bytes()].concat();
    let grid = Grid { blocks: [1; 3], threads: [1; 3], dynamic_shared: 0 };
    launch(&kernel, &memory, &arguments, grid, &mut Order::new(0)).unwrap();
    let mut out = [0; 8];
    memory.read(to, &mut out).unwrap();
    u64::from_le_bytes(out)
}

const WORD: &str = "b32 [%x11], %r0";
const LONG: &str = "b64 [%x11], %x0";
const HALF: &str = "b16 [%x11], %h0";

#[test]
fn integers() {
    let minus = |value: i64| value as u64;
    for (instruction, result, inputs, wanted) in [
        ("add.u32 %r0, %r1, %r2;", WORD, [0xffff_ffff, 2, 0], 1),
        ("sub.s64 %x0, %x1, %x2;", LONG, [1, 2, 0], u64::MAX),
        ("mul.lo.s32 %r0, %r1, %r2;", WORD, [minus(-3), 5, 0], 0xffff_fff1),
        ("mul.hi.u32 %r0, %r1, %r2;", WORD, [0xffff_ffff, 0xffff_ffff, 0], 0xffff_fffe),
        ("mul.hi.s64 %x0, %x1, %x2;", LONG, [minus(-1), 2, 0], u64::MAX),
        ("mul.wide.s32 %x0, %r1, %r2;", LONG, [minus(-2), 3, 0], minus(-6)),
        ("mul.wide.u16 %r0, %h1, %h2;", WORD, [0xffff, 2, 0], 0x1_fffe),
        ("mad.lo.s32 %r0, %r1, %r2, %r3;", WORD, [3, 4, 5], 17),
        ("mad.wide.u32 %x0, %r1, %r2, %x3;", LONG, [1 << 31, 2, 5], (1 << 32) + 5),
        ("div.s32 %r0, %r1, %r2;", WORD, [minus(-7), 2, 0], 0xffff_fffd),
        ("rem.s32 %r0, %r1, %r2;", WORD, [minus(-7), 2, 0], 0xffff_ffff),
        ("min.s32 %r0, %r1, %r2;", WORD, [minus(-1), 2, 0], 0xffff_ffff),
        ("max.u32 %r0, %r1, %r2;", WORD, [minus(-1), 2, 0], 0xffff_ffff),
        ("abs.s32 %r0, %r1;", WORD, [minus(-9), 0, 0], 9),
        ("neg.s32 %r0, %r1;", WORD, [9, 0, 0], 0xffff_fff7),
        ("shl.b32 %r0, %r1, %r2;", WORD, [1, 32, 0], 0),
        ("shr.s32 %r0, %r1, %r2;", WORD, [minus(-16), 2, 0], 0xffff_fffc),
        ("shr.u64 %x0, %x1, %r2;", LONG, [1 << 40, 8, 0], 1 << 32),
        ("shf.l.wrap.b32 %r0, %r1, %r2, %r3;", WORD, [0x8000_0000, 1, 1], 3),
        ("shf.r.clamp.b32 %r0, %r1, %r2, %r3;", WORD, [1, 7, 32], 7),
        ("bfe.u32 %r0, %r1, 4, 8;", WORD, [0xabcd, 0, 0], 0xbc),
        ("bfe.s32 %r0, %r1, 4, 8;", WORD, [0xabcd, 0, 0], 0xffff_ffbc),
        ("bfi.b32 %r0, %r1, %r2, 8, 4;", WORD, [0xf5, 0xffff_ffff, 0], 0xffff_f5ff),
        ("prmt.b32 %r0, %r1, %r2, 0x7610;", WORD, [0x0403_0201, 0x0807_0605, 0], 0x0807_0201),
        ("lop3.b32 %r0, %r1, %r2, %r3, 0xe8;", WORD, [0b1100, 0b1010, 0b1001], 0b1000),
        ("popc.b32 %r0, %r1;", WORD, [0xff00ff, 0, 0], 16),
        ("clz.b32 %r0, %r1;", WORD, [0xff, 0, 0], 24),
        ("brev.b32 %r0, %r1;", WORD, [1, 0, 0], 0x8000_0000),
        ("dp4a.s32.s32 %r0, %r1, %r2, %r3;", WORD, [0xff02_0304, 0x0101_0101, 10], 18),
        ("dp4a.u32.s32 %r0, %r1, %r2, %r3;", WORD, [0xff00_0000, 0xff00_0000, 0], 0xffff_ff01),
        ("setp.lt.s32 %p1, %r1, %r2; selp.b32 %r0, 5, 6, %p1;", WORD, [minus(-1), 0, 0], 5),
        ("setp.lt.u32 %p1, %r1, %r2; selp.b32 %r0, 5, 6, %p1;", WORD, [minus(-1), 0, 0], 6),
        ("set.gt.u32.u32 %r0, %r1, %r2;", WORD, [3, 2, 0], 0xffff_ffff),
        ("mov.b32 {%h1, %h2}, %r1; mov.b32 %r0, {%h2, %h1};", WORD, [0x1234_5678, 0, 0], 0x5678_1234),
        ("cvt.s32.s8 %r0, %r1;", WORD, [0x80, 0, 0], 0xffff_ff80),
        ("cvt.sat.u8.s32 %r0, %r1;", WORD, [300, 0, 0], 255),
    ] {
        assert_eq!(run(instruction, result, inputs), wanted, "{instruction}");
    }
}

#[test]
fn floats() {
    let f = |value: f32| u64::from(value.to_bits());
    for (instruction, result, inputs, wanted) in [
        ("add.f32 %r0, %r1, %r2;", WORD, [f(1.5), f(2.0), 0], f(3.5)),
        ("fma.rn.f32 %r0, %r1, %r2, %r3;", WORD, [f(1.5), f(2.0), f(-1.0)], f(2.0)),
        ("add.rz.f32 %r0, %r1, %r2;", WORD, [f(1.0), f(-1e-20), 0], f(1.0_f32.next_down())),
        ("add.rp.f32 %r0, %r1, %r2;", WORD, [f(1.0), f(1e-20), 0], f(1.0_f32.next_up())),
        ("mul.ftz.f32 %r0, %r1, %r2;", WORD, [1, f(1e10), 0], 0),
        ("fma.rn.sat.f32 %r0, %r1, %r2, %r3;", WORD, [f(3.0), f(2.0), 0], f(1.0)),
        ("max.f32 %r0, %r1, %r2;", WORD, [f(f32::NAN), f(2.0), 0], f(2.0)),
        ("max.NaN.f32 %r0, %r1, %r2;", WORD, [f(f32::NAN), f(2.0), 0], f(f32::NAN)),
        ("neg.f32 %r0, %r1;", WORD, [f(2.0), 0, 0], f(-2.0)),
        ("ex2.approx.ftz.f32 %r0, %r1;", WORD, [f(3.0), 0, 0], f(8.0)),
        ("rsqrt.approx.f32 %r0, %r1;", WORD, [f(4.0), 0, 0], f(0.5)),
        ("cvt.rn.f16.f32 %h0, %r1;", HALF, [f(1.0), 0, 0], 0x3c00),
        ("cvt.rn.bf16.f32 %h0, %r1;", HALF, [f(1.0), 0, 0], 0x3f80),
        ("cvt.rn.f16x2.f32 %r0, %r1, %r2;", WORD, [f(1.0), f(2.0), 0], 0x3c00_4000),
        ("cvt.f32.f16 %r0, %h1;", WORD, [0xc000, 0, 0], f(-2.0)),
        ("cvt.rzi.s32.f32 %r0, %r1;", WORD, [f(-2.7), 0, 0], 0xffff_fffe),
        ("cvt.rni.s32.f32 %r0, %r1;", WORD, [f(2.5), 0, 0], 2),
        ("cvt.rn.f32.s32 %r0, %r1;", WORD, [0xffff_ffff, 0, 0], f(-1.0)),
        ("fma.rn.f16x2 %r0, %r1, %r2, %r3;", WORD, [0x3c00_4000, 0x4000_4000, 0x3c00_3c00], 0x4200_4500),
        ("fma.rn.bf16x2 %r0, %r1, %r2, %r3;", WORD, [0x3f80_4000, 0x4000_4000, 0x3f80_3f80], 0x4040_40a0),
        ("setp.neu.f32 %p1, %r1, %r2; selp.b32 %r0, 5, 6, %p1;", WORD, [f(f32::NAN), 0, 0], 5),
        ("setp.ne.f32 %p1, %r1, %r2; selp.b32 %r0, 5, 6, %p1;", WORD, [f(f32::NAN), 0, 0], 6),
    ] {
        assert_eq!(run(instruction, result, inputs), wanted, "{instruction}");
    }
}

#[test]
fn an_unknown_opcode_is_named() {
    let wrong = kernel("tcgen05.alloc %r0, %r1;", WORD).unwrap_err();
    assert_eq!(wrong.to_string(), "kernel `k`: the simulator doesn't know `tcgen05.alloc %r0, %r1`");
    assert!(kernel("add.odd.u32 %r0, %r1, %r2;", WORD).is_err());
}
