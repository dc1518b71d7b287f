// One function compiled for several instruction sets; the loader picks the best one that the machine has.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(BOWERBIRD_ONE_ISA)
#define BOWERBIRD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define BOWERBIRD_CLONES
#endif

#if defined(__GNUC__)
#define BOWERBIRD_INLINE inline __attribute__((always_inline))
#else
#define BOWERBIRD_INLINE inline
#endif
