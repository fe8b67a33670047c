/** Stands in for the core's MMU in these tests: guest addresses are host addresses. */
export function translateR(va: u64, _size: i32): u32 {
  return <u32>va;
}
export function translateW(va: u64, _size: i32): u32 {
  return <u32>va;
}
export function translateWx(va: u64, _size: i32): u32 {
  return <u32>va;
}
/** Every address is canonical here. */
export function whole(_va: u64, _size: u32): bool {
  return true;
}
export function commitW(): void {}
export function recordFault(vector: i32, _error: i32): void {
  store<i32>(0x300200, vector);
}
export function recordExit(_reason: i32, vector: i32): void {
  store<i32>(0x300200, vector);
}
