#include "user.h"

char *user_code_page, *user_stack_page;
u64 user_l4;

void user_init(const char *code, const char *end)
{
    u64 *tables[5];
    user_code_page = alloc_page();
    user_stack_page = alloc_page();
    memcpy(user_code_page, code, (size_t)(end - code));
    for (int level = 1; level <= 4; level++) tables[level] = alloc_page();
    tables[1][table_index(USER_CODE, 1)] = virt_to_mfn(user_code_page) * PAGE_SIZE | PTE_RO;
    tables[1][table_index(USER_STACK, 1)] = virt_to_mfn(user_stack_page) * PAGE_SIZE | PTE_RW;
    for (int level = 2; level <= 4; level++)
        tables[level][table_index(USER_CODE, level)] = virt_to_mfn(tables[level - 1]) * PAGE_SIZE | PTE_RW;
    /* A page-table page may have no writable mapping. */
    for (int level = 1; level <= 4; level++)
        if (protect(tables[level], PTE_RO)) fail("user tables: level %d stays writable", level);
    user_l4 = virt_to_mfn(tables[4]);
    struct mmuext_op ops[2] = {
        { .cmd = MMUEXT_PIN_L4_TABLE, .arg1.mfn = user_l4 },
        { .cmd = MMUEXT_NEW_USER_BASEPTR, .arg1.mfn = user_l4 },
    };
    long r = mmuext_op(ops, 2, 0, DOMID_SELF);
    if (r) fail("user tables refused: %ld", r);
}
