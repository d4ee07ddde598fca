#include "shared_ranges.h"
#include "emulator.h"
#include <algorithm>
#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace
{

struct range {
    unsigned char *begin;
    size_t bytes;
};

std::vector<range> ranges;
std::vector<const void *> modules; /* whose ranges are known */

/* Of a variable local to a function ("_ZZ"): whether the function is a template, not of the standard
 * library. */
bool is_of_template(const char *name)
{
    if (strncmp(name, "_ZZ", 3) || !strncmp(name, "_ZZNSt", 6) || !strncmp(name, "_ZZNKSt", 7) ||
        !strncmp(name, "_ZZSt", 5))
        return false;
    int status;
    char *text = abi::__cxa_demangle(name, NULL, NULL, &status);
    const char *parameters = text; /* where they begin, with "(" */
    while (parameters && *parameters && (*parameters != '(' || !strncmp(parameters, "(anon", 5)))
        parameters++;
    bool result = text && memchr(text, '<', (size_t)(parameters - text));
    free(text);
    return result;
}

bool is_shared(const ElfW(Sym) & symbol, const ElfW(Shdr) * sections, size_t count,
               const char *names, const char *section_names)
{
    unsigned type = symbol.st_info & 0xf;
    if (type != STT_OBJECT || symbol.st_size == 0 || symbol.st_shndx >= count)
        return false;
    const ElfW(Shdr) &section = sections[symbol.st_shndx];
    if (!strcmp(section_names + section.sh_name, "cop_shared"))
        return true;
    return section.sh_type == SHT_NOBITS && !(section.sh_flags & SHF_TLS) &&
           is_of_template(names + symbol.st_name);
}

void read_symbols(const unsigned char *file, unsigned char *base)
{
    const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)file;
    const ElfW(Shdr) *sections = (const ElfW(Shdr) *)(file + header->e_shoff);
    const char *section_names = (const char *)file + sections[header->e_shstrndx].sh_offset;
    for (size_t i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB)
            continue;
        const ElfW(Sym) *symbols = (const ElfW(Sym) *)(file + sections[i].sh_offset);
        const char *names = (const char *)file + sections[sections[i].sh_link].sh_offset;
        for (size_t s = 0; s < sections[i].sh_size / sizeof symbols[0]; s++)
            if (is_shared(symbols[s], sections, header->e_shnum, names, section_names))
                ranges.push_back({base + symbols[s].st_value, symbols[s].st_size});
    }
}

} // namespace

void emulator_add_shared_ranges(const void *function)
{
    Dl_info module;
    if (!dladdr(function, &module))
        emulator_abort("no module holds the kernel at %p", function);
    if (std::find(modules.begin(), modules.end(), module.dli_fbase) != modules.end())
        return;
    modules.push_back(module.dli_fbase);
    int fd = open(module.dli_fname, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status))
        emulator_abort("cannot read the symbols of %s", module.dli_fname);
    void *file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (file == MAP_FAILED)
        emulator_abort("cannot read the symbols of %s", module.dli_fname);
    /* A program that is not position-independent has absolute symbols. */
    bool fixed = ((const ElfW(Ehdr) *)file)->e_type == ET_EXEC;
    read_symbols((const unsigned char *)file, fixed ? NULL : (unsigned char *)module.dli_fbase);
    munmap(file, (size_t)status.st_size);
}

void emulator_poison_shared_ranges()
{
    for (const range &r : ranges)
        memset(r.begin, 0xff, r.bytes);
}

bool emulator_in_shared_ranges(const unsigned char *p, size_t bytes)
{
    for (const range &r : ranges)
        if (p >= r.begin && p + bytes <= r.begin + r.bytes)
            return true;
    return false;
}
