//! x86-64, by iced-x86.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Formatter, Instruction, IntelFormatter, OpKind, Register,
};

use super::{Arithmetic, Flow, Insn, Kind, call, tail_call, target};

pub(super) fn decode(code: &[u8], relocations: &BTreeMap<u64, String>) -> Result<Vec<Insn>> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    let mut all = Vec::new();
    while decoder.can_decode() {
        let i = decoder.decode();
        let mut text = String::new();
        formatter.format(&i, &mut text);
        if i.is_invalid() {
            bail!("no x86-64 instruction at {:#x}", i.ip());
        }
        // A relocation lies inside the instruction whose operand it fills.
        let name = relocations.range(i.ip()..i.next_ip()).next().map(|(_, n)| n.clone());
        let near = || target(i.ip(), i.near_branch_target() as i64, code.len(), &text);
        let flow = match i.flow_control() {
            FlowControl::Next | FlowControl::XbeginXabortXend => Flow::Next,
            // With a name to fill in it is a tail call.
            FlowControl::UnconditionalBranch if name.is_none() => Flow::Jump(near()?),
            FlowControl::ConditionalBranch if name.is_none() => Flow::Branch(near()?),
            FlowControl::ConditionalBranch => Flow::Next,
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch if name.is_some() => {
                tail_call(name.clone().unwrap_or_default())
            }
            FlowControl::Call | FlowControl::IndirectCall => call(name.clone()),
            _ => Flow::Leave,
        };
        if let (Flow::Call(_), Some(name)) = (&flow, &name) {
            text = format!("{text} ; {name}");
        }
        let kind = kind(&i);
        let (stack, widest) = (stack(&i), widest(&i));
        all.push(Insn { offset: i.ip(), text, flow, symbol: name, kind, stack, widest });
    }
    Ok(all)
}

pub(super) fn kind_of(code: &[u8]) -> Kind {
    kind(&Decoder::with_ip(64, code, 0, DecoderOptions::NONE).decode())
}

fn stack(i: &Instruction) -> bool {
    let memory = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
    memory && (i.memory_base() == Register::RSP || i.memory_index() == Register::RSP)
}

fn widest(i: &Instruction) -> u32 {
    let registers = (0..i.op_count()).filter(|n| i.op_kind(*n) == OpKind::Register).map(|n| i.op_register(n));
    registers.map(bits).max().unwrap_or(0)
}

fn bits(r: Register) -> u32 {
    if r.is_zmm() {
        512
    } else if r.is_ymm() {
        256
    } else if r.is_xmm() {
        128
    } else {
        0
    }
}

/// By the mnemonic: its stem says what, its ending in how many lanes.
fn kind(i: &Instruction) -> Kind {
    let name = format!("{:?}", i.mnemonic()).to_lowercase();
    let name = name.strip_prefix('v').unwrap_or(&name);
    if name.starts_with("gather") || name.starts_with("pgather") {
        return Kind::Gather(widest(i));
    }
    if name.starts_with("prefetch") {
        return Kind::Prefetch;
    }
    // Conversions have two types in their name: cvtps2pd, cvtsi2ss, cvttss2si.
    if let Some(types) = name.strip_prefix("cvt") {
        let scalar = ["ss", "sd"].iter().any(|t| types.contains(t));
        let packed = ["ps", "pd"].iter().any(|t| types.contains(t));
        return match (scalar, packed) {
            (true, _) => Kind::Scalar(Arithmetic::Plain),
            (_, true) => Kind::Packed(Arithmetic::Plain, widest(i)),
            _ => Kind::Other,
        };
    }
    if name.ends_with("comiss") || name.ends_with("comisd") {
        return Kind::Scalar(Arithmetic::Plain);
    }
    let Some((stem, lanes)) = name.split_at_checked(name.len().saturating_sub(2)) else { return Kind::Other };
    let plain = [
        "add", "sub", "mul", "max", "min", "hadd", "hsub", "addsub", "dp", "round", "rndscale", "reduce",
        "range", "scalef", "getexp", "getmant", "fixupimm", "cmp",
    ];
    let fused = ["fmadd", "fmsub", "fnmadd", "fnmsub", "fmaddsub", "fmsubadd"];
    let what = match stem {
        "div" => Arithmetic::Div,
        "sqrt" => Arithmetic::Sqrt,
        "rcp" | "rsqrt" | "rcp14" | "rsqrt14" | "rcp28" | "rsqrt28" => Arithmetic::Estimate,
        _ if plain.contains(&stem) => Arithmetic::Plain,
        // fmadd132, fmadd213, fmadd231
        _ if fused.contains(&stem.trim_end_matches(|c: char| c.is_ascii_digit())) => Arithmetic::Fma,
        _ => return Kind::Other,
    };
    match lanes {
        "ss" | "sd" => Kind::Scalar(what),
        "ps" | "pd" => Kind::Packed(what, widest(i)),
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(code: &[u8]) -> Insn {
        let all = decode(code, &BTreeMap::new()).unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().unwrap()
    }

    #[test]
    fn arithmetic_by_width() {
        use Arithmetic::*;
        let cases: &[(&[u8], Kind)] = &[
            // addps xmm0, xmm1; vaddps ymm0, ymm1, ymm2; vaddps zmm0, zmm1, zmm2
            (&[0x0f, 0x58, 0xc1], Kind::Packed(Plain, 128)),
            (&[0xc5, 0xf4, 0x58, 0xc2], Kind::Packed(Plain, 256)),
            (&[0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2], Kind::Packed(Plain, 512)),
            // vfmadd231ps ymm0, ymm1, ymm2; vfmadd231ss xmm0, xmm1, xmm2
            (&[0xc4, 0xe2, 0x75, 0xb8, 0xc2], Kind::Packed(Fma, 256)),
            (&[0xc4, 0xe2, 0x71, 0xb9, 0xc2], Kind::Scalar(Fma)),
            // vsqrtps ymm0, ymm1; divss xmm0, xmm1; rcpps xmm0, xmm1; vrcp14ps zmm0, zmm1
            (&[0xc5, 0xfc, 0x51, 0xc1], Kind::Packed(Sqrt, 256)),
            (&[0xf3, 0x0f, 0x5e, 0xc1], Kind::Scalar(Div)),
            (&[0x0f, 0x53, 0xc1], Kind::Packed(Estimate, 128)),
            (&[0x62, 0xf2, 0x7d, 0x48, 0x4c, 0xc1], Kind::Packed(Estimate, 512)),
            // cvtss2sd xmm0, xmm1; cvtps2pd xmm0, xmm1; cvtsi2ss xmm0, eax; ucomiss xmm0, xmm1
            (&[0xf3, 0x0f, 0x5a, 0xc1], Kind::Scalar(Plain)),
            (&[0x0f, 0x5a, 0xc1], Kind::Packed(Plain, 128)),
            (&[0xf3, 0x0f, 0x2a, 0xc0], Kind::Scalar(Plain)),
            (&[0x0f, 0x2e, 0xc1], Kind::Scalar(Plain)),
            // movss xmm0, xmm1; vbroadcastss ymm0, xmm1; xorps xmm0, xmm0; add eax, ecx; paddd xmm0, xmm1
            (&[0xf3, 0x0f, 0x10, 0xc1], Kind::Other),
            (&[0xc4, 0xe2, 0x7d, 0x18, 0xc1], Kind::Other),
            (&[0x0f, 0x57, 0xc0], Kind::Other),
            (&[0x01, 0xc8], Kind::Other),
            (&[0x66, 0x0f, 0xfe, 0xc1], Kind::Other),
            // vgatherdps ymm0, [rax + ymm1*4], ymm2
            (&[0xc4, 0xe2, 0x6d, 0x92, 0x04, 0x88], Kind::Gather(256)),
        ];
        for (code, kind) in cases {
            let insn = one(code);
            assert_eq!(insn.kind, *kind, "{}", insn.text);
        }
    }

    #[test]
    fn stack_and_flow() {
        // movups [rsp + 0x10], xmm0; movups [rax], xmm0
        assert!(one(&[0x0f, 0x11, 0x44, 0x24, 0x10]).stack);
        assert!(!one(&[0x0f, 0x11, 0x00]).stack);
        // jmp to itself; jne to itself; ret; ud2; call rax
        assert_eq!(one(&[0xeb, 0xfe]).flow, Flow::Jump(0));
        assert_eq!(one(&[0x75, 0xfe]).flow, Flow::Branch(0));
        assert_eq!(one(&[0xc3]).flow, Flow::Leave);
        assert_eq!(one(&[0x0f, 0x0b]).flow, Flow::Leave);
        assert_eq!(one(&[0xff, 0xd0]).flow, Flow::Call(None));
    }

    #[test]
    fn names_come_from_relocations() {
        let call = [0xe8, 0, 0, 0, 0];
        let named =
            |name: &str| decode(&call, &BTreeMap::from([(1, name.to_owned())])).unwrap()[0].flow.clone();
        assert_eq!(named("fmaf"), Flow::Call(Some("fmaf".into())));
        assert_eq!(named("core::panicking::panic_bounds_check"), Flow::Leave);
        assert_eq!(named("core::slice::index::slice_index_fail"), Flow::Leave);
        // What only has a panicking type in its name comes back.
        let map = "<core::option::Option<f32>>::map::<f32, hotlanes::x::{closure#0}>";
        assert_eq!(named(map), Flow::Call(Some(map.into())));
        // jmp with a name is a tail call
        let tail = decode(&[0xe9, 0, 0, 0, 0], &BTreeMap::from([(1, "memcpy".to_owned())])).unwrap();
        assert_eq!(tail[0].flow, Flow::TailCall("memcpy".into()));
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        assert!(decode(&[0x06], &BTreeMap::new()).unwrap_err().to_string().contains("no x86-64 instruction"));
        let out = decode(&[0xeb, 0x10], &BTreeMap::new()).unwrap_err().to_string();
        assert!(out.contains("jumps out of its function"), "{out}");
    }
}
