//! What the gate must refuse, each case made by hand from one that passes.

use super::*;
use crate::gate::decode::{Arch, decode};
use crate::gate::hot;

/// A loop over sixteen lanes: vmovups ymm0, [rdi]; vfmadd231ps ymm1, ymm0, ymm0; add rdi, 32; dec rsi; jne; ret
const GOOD: &[u8] = &[
    0xc5, 0xfc, 0x10, 0x07, 0xc4, 0xe2, 0x7d, 0xb8, 0xc8, 0x48, 0x83, 0xc7, 0x20, 0x48, 0xff, 0xce, 0x75,
    0xee, 0xc3,
];

fn function(code: &[u8], names: &[(u64, &str)], tier: Tier) -> Function {
    let names = names.iter().map(|(at, name)| (*at, (*name).to_owned())).collect();
    Function { kernel: "K".into(), tier, code: decode(Arch::X86, code, &names).unwrap() }
}

fn measured(function: Function, budget: Option<&Mix>) -> Measured {
    let hot = hot::nearest(&function, budget.unwrap_or(&Mix { instructions: 5, ..Mix::default() }));
    let count = Some(Count { elements: [512, 1024], instructions: [200, 360], library: [0, 0] });
    Measured { function: Some(function), hot, count, ..Measured::default() }
}

fn good() -> Measured {
    measured(function(GOOD, &[], Tier::Avx2), None)
}

fn budgets() -> Budgets {
    let tiers = BTreeMap::from([(Tier::Avx2, good().row().unwrap())]);
    Budgets { rustc: "1".into(), kernels: BTreeMap::from([("k".to_owned(), tiers)]) }
}

/// The problems of one kernel on AVX2.
fn problems(now: Measured, budgets: &Budgets) -> String {
    let table = Table::from([(("k".to_owned(), Tier::Avx2), now)]);
    let lines = check(&table, budgets);
    lines.into_iter().flat_map(|l| l.problems).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_good_kernel_passes() {
    assert_eq!(problems(good(), &budgets()), "");
    assert_eq!(good().row().unwrap().hot.fma, 1);
}

#[test]
fn a_missing_symbol_is_refused() {
    let now = Measured { function: None, ..good() };
    assert!(problems(now, &budgets()).contains("no symbol"));
}

#[test]
fn a_missing_row_is_refused() {
    let none = Budgets { kernels: BTreeMap::new(), ..budgets() };
    assert!(problems(good(), &none).contains("no budget: bring one"));
}

#[test]
fn a_missing_tier_is_refused() {
    // In the budgets, and not among what was measured.
    let problems = check(&Table::new(), &budgets()).remove(0).problems;
    assert!(problems[0].contains("a budget without a kernel"), "{problems:?}");
    // Measured, and not in the budgets.
    let table = Table::from([(("k".to_owned(), Tier::Avx512), good())]);
    let lines = check(&table, &budgets());
    let line = lines.iter().find(|l| l.tier == Tier::Avx512).unwrap();
    assert!(line.problems[0].contains("no budget"), "{:?}", line.problems);
}

#[test]
fn a_count_of_zero_and_a_missing_count_are_refused() {
    let zero = Some(Count { elements: [512, 1024], instructions: [0, 0], library: [0, 0] });
    assert!(problems(Measured { count: zero, ..good() }, &budgets()).contains("nothing was measured"));
    assert!(problems(Measured { count: None, ..good() }, &budgets()).contains("it was not counted"));
    // With a reason it is skipped, and the reason is said.
    let skipped = Some("this CPU lacks avx2".to_owned());
    assert_eq!(problems(Measured { count: None, skipped, ..good() }, &budgets()), "");
}

#[test]
fn a_function_that_was_never_executed_is_refused() {
    assert!(problems(Measured { hot: None, ..good() }, &budgets()).contains("was not executed"));
}

#[test]
fn a_call_in_the_loop_is_refused_by_name() {
    // The loop with `call fmaf` in front of its end.
    let mut code = GOOD[..9].to_vec();
    code.extend([0xe8, 0, 0, 0, 0]);
    code.extend([0x48, 0x83, 0xc7, 0x20, 0x48, 0xff, 0xce, 0x75, 0xe9, 0xc3]);
    let budgets = budgets();
    let row = budgets.kernels["k"][&Tier::Avx2].hot;
    let said = problems(measured(function(&code, &[(10, "fmaf")], Tier::Avx2), Some(&row)), &budgets);
    assert!(said.contains("loop: 1 calls, 0 before") && said.contains("it calls fmaf"), "{said}");
}

#[test]
fn wide_registers_in_the_scalar_tier_are_refused() {
    let now = measured(function(GOOD, &[], Tier::Scalar), None);
    let table = Table::from([(("k".to_owned(), Tier::Scalar), now)]);
    let problems = check(&table, &budgets()).remove(0).problems;
    assert!(problems.iter().any(|p| p.contains("the scalar tier uses 256 bits: `vmovups")), "{problems:?}");
}

#[test]
fn estimates_are_refused() {
    // rcpps xmm0, xmm1; ret
    let now = measured(function(&[0x0f, 0x53, 0xc1, 0xc3], &[], Tier::Avx2), None);
    assert!(problems(now, &budgets()).contains("1 estimates of a reciprocal or root"));
}

#[test]
fn masked_stores_of_avx_are_refused() {
    // vmaskmovps [rdi], ymm0, ymm1; ret
    let store = [0xc4, 0xe2, 0x7d, 0x2e, 0x0f, 0xc3];
    let said = problems(measured(function(&store, &[], Tier::Avx2), None), &budgets());
    assert!(said.contains("rule: `vmaskmovps") && said.contains("twelve cycles"), "{said}");
    // vmaskmovps ymm1, ymm0, [rdi]; ret. vmovups [rdi]{k1}, zmm0; ret
    let load: &[u8] = &[0xc4, 0xe2, 0x7d, 0x2c, 0x0f, 0xc3];
    let wide: &[u8] = &[0x62, 0xf1, 0x7c, 0x49, 0x11, 0x07, 0xc3];
    for code in [load, wide] {
        assert!(!problems(measured(function(code, &[], Tier::Avx2), None), &budgets()).contains("rule:"));
    }
}

#[test]
fn the_c_librarys_mathematics_is_refused() {
    // jmp expf
    let now = measured(function(&[0xe9, 0, 0, 0, 0], &[(1, "expf")], Tier::Avx2), None);
    assert!(problems(now, &budgets()).contains("rule: it calls expf"));
    // mov rax, [rip + fmaf's address]; call rax
    let code = [0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xff, 0xd0, 0xc3];
    let now = measured(function(&code, &[(3, "fmaf")], Tier::Avx2), None);
    assert!(problems(now, &budgets()).contains("rule: it calls fmaf"));
    let now = measured(function(&[0xe8, 0, 0, 0, 0, 0xc3], &[(1, "memset")], Tier::Avx2), None);
    assert!(!problems(now, &budgets()).contains("rule:"));
}

#[test]
fn a_lost_twin_is_refused() {
    let mut budgets = budgets();
    budgets.kernels.get_mut("k").unwrap().get_mut(&Tier::Avx2).unwrap().twin = true;
    assert!(problems(good(), &budgets).contains("plain loop that it was compared with is gone"));
}

#[test]
fn work_that_the_compiler_leaves_out_is_refused() {
    let with = |instructions| {
        let count = Some(Count { elements: [512, 1024], instructions: [100, instructions], library: [0, 0] });
        problems(Measured { count, ..good() }, &budgets())
    };
    let said = with(163);
    assert!(said.contains("rule: 0.1230 instructions per element, fewer than the 0.1250"), "{said}");
    assert!(!with(164).contains("left work out"));
}

#[test]
fn a_wider_tier_must_not_need_more_instructions() {
    let count = |instructions| Count { elements: [512, 1024], instructions, library: [0, 0] };
    let against = |instructions| {
        let narrower = vec![("scalar".to_owned(), count(instructions))];
        problems(Measured { count: Some(count([500, 1000])), narrower, ..good() }, &budgets())
    };
    let said = against([100, 200]);
    assert!(said.contains("0.977 instructions per element, more than the 0.195 of scalar"), "{said}");
    // The loop's own instructions are forgiven.
    assert!(!against([400, 800]).contains("rule:"));
}

#[test]
fn a_kernel_must_not_be_worse_than_its_twin() {
    let count = |instructions| Count { elements: [512, 1024], instructions, library: [0, 0] };
    let against =
        |twin| problems(Measured { weighted: Some((count([500, 1000]), count(twin))), ..good() }, &budgets());
    assert!(against([100, 200]).contains("the compiler's own"));
    assert_eq!(against([400, 800]), "");
}

#[test]
fn a_kernel_without_a_case_is_named() {
    let sources = BTreeSet::from(["a::Run".to_owned(), "b::MatMul".to_owned()]);
    assert_eq!(uncovered(&sources, ["b::MatMul<u32>"].into_iter()), ["a::Run"]);
}
