/** Where the general registers are in the state block. */
import { GPR } from "../generated/layout";

export const RAX: u32 = GPR;
export const RCX: u32 = GPR + 1 * 8;
export const RDX: u32 = GPR + 2 * 8;
export const RSP: u32 = GPR + 4 * 8;
export const RSI: u32 = GPR + 6 * 8;
export const RDI: u32 = GPR + 7 * 8;
export const R10: u32 = GPR + 10 * 8;
export const R11: u32 = GPR + 11 * 8;

/** By its number in an instruction. */
// @ts-ignore: decorator
@inline
export function register(n: u32): u32 {
  return GPR + n * 8;
}
