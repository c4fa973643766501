//! Each check of the simulator, with a kernel that it must stop.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::HashMap;

use cuda_sim::machine::{Allocation, Cause, Fault, Grid, Memory, Order, launch};
use cuda_sim::program::{Symbols, decode};
use cuda_sim::ptx::parse;

/// Runs a body with 64 threads; `%x1` is the address of 256 bytes, `%r1` the thread.
fn fault(body: &str) -> Fault {
    *run(body, 7).unwrap_err()
}

fn run(body: &str, seed: u64) -> Result<(), Box<Fault>> {
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry bad(.param .u64 at) {{
        .reg .b64 %x<9>; .reg .b32 %r<9>; .reg .pred %p<9>; .shared .align 16 .b8 s[256];
        ld.param.u64 %x1, [at]; mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 16;
        {body}
        ret; }}"
    );
    let module = parse(&text).unwrap();
    let symbols = Symbols { functions: HashMap::new(), addresses: HashMap::new(), shared: HashMap::new() };
    let kernel = decode(&module.functions[0], &symbols).unwrap();
    let mut memory = Memory::default();
    let allocation = Allocation { bytes: 256, device: 0, writable: true, pinned: false };
    let at = memory.allocate(allocation).unwrap();
    if body.contains("freed") {
        memory.free(at);
    }
    let grid = Grid { blocks: [1; 3], threads: [64, 1, 1], dynamic_shared: 0 };
    launch(&kernel, &memory, &at.to_le_bytes(), grid, &mut Order::new(seed)).map(drop)
}

#[test]
fn addresses_are_checked() {
    let past = fault("ld.global.u32 %r2, [%x1+256];");
    assert!(matches!(past.cause, Cause::OutOfBounds { bytes: 4, .. }), "{past}");
    assert_eq!(past.instruction, "ld.global.u32 %r2, [%x1+256]");
    assert!(matches!(fault("st.shared.u32 [s+256], %r1;").cause, Cause::OutOfBounds { .. }));
    assert!(matches!(
        fault("ld.global.v2.u32 {%r2, %r3}, [%x1+4];").cause,
        Cause::Misaligned { bytes: 8, .. }
    ));
    assert!(matches!(fault("// freed\nld.global.u32 %r2, [%x1];").cause, Cause::Freed { .. }));
}

#[test]
fn masks_are_checked() {
    let exited = fault("@%p1 exit; shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;");
    assert!(matches!(&exited.cause, Cause::LaneMissing { state, .. } if state == "has exited"), "{exited}");
    let apart = fault(
        "@%p1 bra A; vote.sync.ballot.b32 %r2, %p1, -1; bra B; A: activemask.b32 %r3; bar.warp.sync -1; B:",
    );
    assert!(matches!(apart.cause, Cause::LaneMissing { .. }), "{apart}");
    assert!(matches!(fault("bar.warp.sync 2;").cause, Cause::NotInMask { mask: 2 }));
}

#[test]
fn barriers_are_checked() {
    assert!(matches!(fault("@%p1 exit; bar.sync 0;").cause, Cause::Barrier { id: 0, .. }));
    assert!(matches!(fault("@%p1 bar.sync 0; @!%p1 bar.sync 1;").cause, Cause::Barrier { .. }));
    assert!(matches!(fault("bar.sync 16;").cause, Cause::NoSuchBarrier { id: 16 }));
}

#[test]
fn races_are_found() {
    let race = fault(
        "shl.b32 %r2, %r1, 2; mov.u32 %r3, s; add.u32 %r2, %r2, %r3; st.shared.u32 [%r2], %r1; ld.shared.u32 %r4, [s];",
    );
    assert!(matches!(race.cause, Cause::Race { .. }), "{race}");
    assert!(matches!(fault("trap;").cause, Cause::Trap));
}

#[test]
fn lanes_that_went_round_more_often_meet_the_others_at_a_shuffle() {
    let body = "and.b32 %r2, %r1, 7;
        again: sub.s32 %r2, %r2, 1; setp.ge.s32 %p2, %r2, 0; @%p2 bra again;
        shfl.sync.bfly.b32 %r3, %r1, 1, 31, -1;
        and.b32 %r4, %r1, 31; setp.eq.u32 %p3, %r4, 0; @!%p3 bra on; st.global.u32 [%x1], %r3;
        on: shfl.sync.bfly.b32 %r5, %r1, 2, 31, -1;";
    for seed in 0..20 {
        if let Err(fault) = run(body, seed) {
            panic!("seed {seed}: {fault}");
        }
    }
}
