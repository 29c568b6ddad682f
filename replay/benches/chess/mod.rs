//! Positions of random games, as an AlphaZero-like program has them: planes, a policy over moves, a value.

use cozy_chess::{Board, Color, File, GameStatus, Move, Piece, Rank, Square};
use hotlanes_replay::{Codec, Column, Dtype, Schema};

/// Planes of zeros and ones: 14 for each of eight positions, then castling rights.
const BINARY: usize = 8 * 14 + 4;
/// Planes of one value each: colour, move number, moves without progress, repetitions, pieces of either side.
const CONSTANT: usize = 6;
const MOVES: usize = 4672;
/// The most legal moves of any position.
const LEGAL: usize = 218;

/// Positions, one after another.
#[derive(Default)]
pub struct Positions {
    pub planes: Vec<f32>,
    pub policy: Vec<f32>,
    pub value: Vec<f32>,
}

/// 8 x 8 x 122 planes, 4,672 moves, a value. Random games have few moves a position, so that half of what the worst one
/// needs is enough.
pub fn schema() -> Schema {
    Schema::new(vec![
        Column::new("planes", Dtype::F32, &[BINARY + CONSTANT, 8, 8])
            .codec(Codec::BitPlanes { plane: 64, constant: CONSTANT }),
        Column::new("policy", Dtype::F32, &[MOVES])
            .codec(Codec::TopK { k: LEGAL, bf16: false })
            .budget(6 * 64),
        Column::new("value", Dtype::F32, &[]),
    ])
    .unwrap()
}

/// So many positions of games of legal moves, each as likely as the next.
pub fn positions(seed: u64, count: usize) -> Positions {
    let mut positions = Positions::default();
    let mut state = seed;
    let mut below = |n: usize| {
        // The generator of Knuth's MMIX, its upper bits.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % n
    };
    while positions.value.len() < count {
        let mut board = Board::default();
        let mut history = vec![];
        while board.status() == GameStatus::Ongoing && history.len() < 300 && positions.value.len() < count {
            let mut moves: Vec<Move> = Vec::new();
            board.generate_moves(|of_piece| {
                moves.extend(of_piece);
                false
            });
            history.push(board.clone());
            planes(&history, &mut positions.planes);
            let start = positions.policy.len();
            positions.policy.resize(start + MOVES, 0.0);
            let visits: Vec<usize> = moves.iter().map(|_| 1 + below(50)).collect();
            let all: usize = visits.iter().sum();
            for (chess_move, visits) in moves.iter().zip(visits) {
                positions.policy[start + index(*chess_move, board.side_to_move())] +=
                    visits as f32 / all as f32;
            }
            positions.value.push(below(3) as f32 - 1.0);
            board.play_unchecked(moves[below(moves.len())]);
        }
    }
    positions
}

fn planes(history: &[Board], out: &mut Vec<f32>) {
    let board = &history[history.len() - 1];
    let side = board.side_to_move();
    for back in 0..8 {
        let Some(old) = history.len().checked_sub(1 + back).map(|i| &history[i]) else {
            out.extend([0.0; 14 * 64]);
            continue;
        };
        for color in [side, !side] {
            for piece in Piece::ALL {
                let set = old.colored_pieces(color, piece);
                out.extend(Square::ALL.map(|square| f32::from(u8::from(set.has(square)))));
            }
        }
        let seen = history[..history.len() - back].iter().filter(|other| other.same_position(old)).count();
        for times in [2, 3] {
            out.extend([f32::from(u8::from(seen >= times)); 64]);
        }
    }
    for color in [side, !side] {
        let rights = board.castle_rights(color);
        for right in [rights.short, rights.long] {
            out.extend([f32::from(u8::from(right.is_some())); 64]);
        }
    }
    let pieces = |color| board.colors(color).len() as f32 / 16.0;
    let white = f32::from(u8::from(side == Color::White));
    let moves = history.len() as f32 / 300.0;
    let idle = f32::from(board.halfmove_clock()) / 100.0;
    for value in [white, moves, idle, history.len() as f32 % 2.0, pieces(side), pieces(!side)] {
        out.extend([value; 64]);
    }
}

/// The move's place in 8 x 8 x 73, as in AlphaZero: 56 queen moves, 8 of a knight, 9 underpromotions, from the side to
/// move.
fn index(chess_move: Move, side: Color) -> usize {
    let turn = |square: Square| if side == Color::White { square } else { square.flip_rank() };
    let (from, to) = (turn(chess_move.from), turn(chess_move.to));
    let file = |square: Square| square.file() as i32 - File::A as i32;
    let rank = |square: Square| square.rank() as i32 - Rank::First as i32;
    let (dx, dy) = (file(to) - file(from), rank(to) - rank(from));
    let kind = match chess_move.promotion {
        Some(Piece::Knight) => 64 + (dx + 1) as usize,
        Some(Piece::Bishop) => 67 + (dx + 1) as usize,
        Some(Piece::Rook) => 70 + (dx + 1) as usize,
        _ if dx != 0 && dy != 0 && dx.abs() != dy.abs() => {
            let knight = [(1, 2), (2, 1), (2, -1), (1, -2), (-1, -2), (-2, -1), (-2, 1), (-1, 2)];
            56 + knight.iter().position(|&jump| jump == (dx, dy)).expect("a knight's jump")
        }
        _ => {
            let rays = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)];
            let ray = rays.iter().position(|&ray| ray == (dx.signum(), dy.signum())).expect("a queen's move");
            7 * ray + (dx.abs().max(dy.abs()) - 1) as usize
        }
    };
    73 * (from as usize) + kind
}
