/* A qemu plugin (TCG API version 1) that counts executed AArch64 instructions: all, vector and floating point, and dot products.
   The program marks regions by close(0x3b9aca00 + k), which fails harmlessly; each mark appends the counts since the last one as a line
   of JSON to the file that the argument out= names. The API is declared here, since Debian ships no header for it. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct info { const char *target_name; struct { int min, cur; } version; bool system_emulation; struct { int smp, max; } cpus; };
struct block;
struct instruction;
extern size_t qemu_plugin_tb_n_insns(const struct block *);
extern struct instruction *qemu_plugin_tb_get_insn(const struct block *, size_t);
extern const void *qemu_plugin_insn_data(const struct instruction *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct block *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct block *, int, void *, uint64_t);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                                                                     uint64_t, uint64_t, uint64_t, uint64_t));
__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { ALL, VECTOR, DOT, KINDS };
static const char *const names[KINDS] = {"all", "vector", "dot_product"};
static const int CLOSE = 57;
static const uint64_t MARK = 0x3b9aca00u;
static uint64_t counts[KINDS], before[KINDS];
static char path[1024];

static void translated(plugin_id id, struct block *block)
{
    uint64_t found[KINDS] = {0};
    found[ALL] = qemu_plugin_tb_n_insns(block);
    for (size_t i = 0; i < found[ALL]; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof word);
        found[VECTOR] += (word & 0x0E000000) == 0x0E000000;
        found[DOT] += (word & 0x9FE0FC00) == 0x0E809400 || (word & 0x9FC0F400) == 0x0F80E000;
    }
    for (int kind = 0; kind < KINDS; kind++)
        if (found[kind]) qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &counts[kind], found[kind]);
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t first, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f,
                   uint64_t g, uint64_t h)
{
    if (number != CLOSE || (first & 0xffffff00u) != MARK) return;
    FILE *out = fopen(path, "a");
    if (!out) return;
    fprintf(out, "{\"mark\": %d", (int)(first & 0xff));
    for (int kind = 0; kind < KINDS; kind++) {
        fprintf(out, ", \"%s\": %llu", names[kind], (unsigned long long)(counts[kind] - before[kind]));
        before[kind] = counts[kind];
    }
    fprintf(out, "}\n");
    fclose(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const struct info *info, int count, char **arguments)
{
    for (int i = 0; i < count; i++)
        if (!strncmp(arguments[i], "out=", 4)) snprintf(path, sizeof path, "%s", arguments[i] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
