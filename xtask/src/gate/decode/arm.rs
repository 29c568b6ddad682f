//! AArch64, by yaxpeax-arm.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::{InstDecoder, Instruction, Opcode, Operand, SIMDSizeCode};

use super::{Arithmetic, Flow, Insn, Kind, call, tail_call, target};

/// The stack pointer's number, where an operand is an address, and the frame pointer's.
const SP: u16 = 31;
const FP: u16 = 29;

pub(super) fn decode(code: &[u8], relocations: &BTreeMap<u64, String>) -> Result<Vec<Insn>> {
    let decoder = InstDecoder::default();
    let (mut all, mut frame) = (Vec::new(), false);
    for (n, word) in code.chunks(4).enumerate() {
        let offset = n as u64 * 4;
        let i = match decoder.decode(&mut U8Reader::new(word)) {
            Ok(i) => i,
            Err(e) => bail!("no AArch64 instruction at {offset:#x} ({word:02x?}): {e}"),
        };
        let mut text = i.to_string();
        let name = relocations.get(&offset).cloned();
        let near = || match i.operands.iter().find_map(|o| match o {
            Operand::PCOffset(by) => Some(*by),
            _ => None,
        }) {
            Some(by) => target(offset, offset as i64 + by, code.len(), &text),
            None => bail!("`{text}` at {offset:#x} has no offset to jump to"),
        };
        let flow = match i.opcode {
            Opcode::B if name.is_none() => Flow::Jump(near()?),
            Opcode::Bcc(_) | Opcode::BCcc(_) | Opcode::CBZ | Opcode::CBNZ | Opcode::TBZ | Opcode::TBNZ => {
                Flow::Branch(near()?)
            }
            Opcode::B if name.is_some() => tail_call(name.clone().unwrap_or_default()),
            Opcode::BL | Opcode::BLR => call(name.clone()),
            Opcode::B | Opcode::BR | Opcode::RET | Opcode::BRK | Opcode::UDF | Opcode::HLT => Flow::Leave,
            _ => Flow::Next,
        };
        if let (Flow::Call(_), Some(name)) = (&flow, &name) {
            text = format!("{text} ; {name}");
        }
        // x29 is a register like others until it is made to point into the frame.
        frame |= ["add x29, sp", "mov x29, sp"].iter().any(|set| text.starts_with(set));
        let (kind, stack, widest) = (kind(&i), stack(&i, frame), widest(&i));
        all.push(Insn { offset, text, flow, symbol: name, kind, stack, widest });
    }
    Ok(all)
}

pub(super) fn kind_of(code: &[u8]) -> Kind {
    match code.get(..4).map(|word| InstDecoder::default().decode(&mut U8Reader::new(word))) {
        Some(Ok(i)) => kind(&i),
        _ => Kind::Other,
    }
}

fn stack(i: &Instruction, frame: bool) -> bool {
    let base = i.operands.iter().find_map(|o| match o {
        Operand::RegPreIndex(r, ..)
        | Operand::RegPostIndex(r, ..)
        | Operand::RegRegOffset(r, ..)
        | Operand::RegPostIndexReg(r, _) => Some(*r),
        _ => None,
    });
    base == Some(SP) || frame && base == Some(FP)
}

fn bits(size: &SIMDSizeCode) -> u32 {
    match size {
        SIMDSizeCode::Q => 128,
        SIMDSizeCode::D => 64,
        _ => 0,
    }
}

fn widest(i: &Instruction) -> u32 {
    let width = |o: &Operand| match o {
        Operand::SIMDRegister(size, _)
        | Operand::SIMDRegisterElements(size, ..)
        | Operand::SIMDRegisterGroup(size, ..) => bits(size),
        _ => 0,
    };
    i.operands.iter().map(width).max().unwrap_or(0)
}

/// By the opcode; the first operand says in how many lanes.
fn kind(i: &Instruction) -> Kind {
    use Opcode::*;
    let what = match i.opcode {
        FMLA | FMLS | FMADD | FMSUB | FNMADD | FNMSUB => Arithmetic::Fma,
        FDIV => Arithmetic::Div,
        FSQRT => Arithmetic::Sqrt,
        FRECPE | FRSQRTE | FRECPX | URECPE | URSQRTE => Arithmetic::Estimate,
        FRECPS | FRSQRTS | FADD | FSUB | FMUL | FNMUL | FMULX | FMAX | FMIN | FMAXNM | FMINNM | FADDP
        | FMAXP | FMINP | FMAXNMP | FMINNMP | FMAXV | FMINV | FMAXNMV | FMINNMV | FABD | FCMP | FCMPE
        | FCCMP | FCCMPE | FCMEQ | FCMGE | FCMGT | FCMLE | FCMLT | FCVT | FCVTL | FCVTL2 | FCVTN | FCVTN2
        | FCVTZS | FCVTZU | FCVTNS | FCVTNU | FCVTPS | FCVTPU | FCVTMS | FCVTMU | FCVTAS | FCVTAU
        | FCVTXN | FACGE | FACGT | FCADD | SCVTF | UCVTF | FRINTN | FRINTP | FRINTM | FRINTZ | FRINTA
        | FRINTX | FRINTI => Arithmetic::Plain,
        _ => return Kind::Other,
    };
    match &i.operands[0] {
        Operand::SIMDRegisterElements(size, ..) => Kind::Packed(what, bits(size)),
        _ => Kind::Scalar(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(word: u32) -> Insn {
        decode(&word.to_le_bytes(), &BTreeMap::new()).unwrap().remove(0)
    }

    #[test]
    fn arithmetic_by_width() {
        use Arithmetic::*;
        let cases = [
            (0x4e22d420, Kind::Packed(Plain, 128)),    // fadd v0.4s, v1.4s, v2.4s
            (0x0e22d420, Kind::Packed(Plain, 64)),     // fadd v0.2s, v1.2s, v2.2s
            (0x4e22cc20, Kind::Packed(Fma, 128)),      // fmla v0.4s, v1.4s, v2.4s
            (0x4f821020, Kind::Packed(Fma, 128)),      // fmla v0.4s, v1.4s, v2.s[0]
            (0x6e22fc20, Kind::Packed(Div, 128)),      // fdiv v0.4s, v1.4s, v2.4s
            (0x6ea1f820, Kind::Packed(Sqrt, 128)),     // fsqrt v0.4s, v1.4s
            (0x4ea1d820, Kind::Packed(Estimate, 128)), // frecpe v0.4s, v1.4s
            (0x1e222820, Kind::Scalar(Plain)),         // fadd s0, s1, s2
            (0x1f020c20, Kind::Scalar(Fma)),           // fmadd s0, s1, s2, s3
            (0x1e21c020, Kind::Scalar(Sqrt)),          // fsqrt s0, s1
            (0x7e30d820, Kind::Scalar(Plain)),         // faddp s0, v1.2s
            (0x3dc00020, Kind::Other),                 // ldr q0, [x1]
            (0x8b020020, Kind::Other),                 // add x0, x1, x2
        ];
        for (word, kind) in cases {
            let insn = one(word);
            assert_eq!(insn.kind, kind, "{}", insn.text);
        }
    }

    #[test]
    fn stack_and_flow() {
        assert!(one(0x3d8007e0).stack); // str q0, [sp, #16]
        assert!(one(0xad0107e0).stack); // stp q0, q1, [sp, #32]
        assert!(!one(0x3d800420).stack); // str q0, [x1, #16]
        // stp q0, q0, [x29, #-144], before and after add x29, sp, #0x40
        let code: Vec<u8> =
            [0xad3b83a0u32, 0x910103fd, 0xad3b83a0].iter().flat_map(|w| w.to_le_bytes()).collect();
        let stack: Vec<_> = decode(&code, &BTreeMap::new()).unwrap().iter().map(|i| i.stack).collect();
        assert_eq!(stack, [false, false, true]);
        assert_eq!(one(0x14000000).flow, Flow::Jump(0)); // b .
        assert_eq!(one(0x54000001).flow, Flow::Branch(0)); // b.ne .
        assert_eq!(one(0xb4000000).flow, Flow::Branch(0)); // cbz x0, .
        assert_eq!(one(0xd65f03c0).flow, Flow::Leave); // ret
        assert_eq!(one(0xd63f0000).flow, Flow::Call(None)); // blr x0
        let bl = decode(&0x94000000u32.to_le_bytes(), &BTreeMap::from([(0, "fmaf".to_owned())])).unwrap();
        assert_eq!(bl[0].flow, Flow::Call(Some("fmaf".into())));
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        assert!(decode(&[0xff; 4], &BTreeMap::new()).is_err());
        assert!(decode(&0x14000010u32.to_le_bytes(), &BTreeMap::new()).is_err());
    }
}
