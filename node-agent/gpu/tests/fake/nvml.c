/* A driver library that reads its cards from the file named by FAKE_NVML_FILE at each call. One line a card:
   uuid;name;total MiB;used MiB;utilisation %;pid=MiB,pid=MiB;state   (state: ok, lost, xid<number>; MiB -1 = not told)
   A first line "broken" makes every call fail. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX 16
typedef struct { char uuid[80], name[80], procs[256], state[16]; long total, used; int util; } card_t;
static __thread card_t cards[MAX];

static int load(void) {
    FILE *f = fopen(getenv("FAKE_NVML_FILE"), "r");
    char line[1024];
    int n = 0;
    if (!f) return -1;
    while (n < MAX && fgets(line, sizeof line, f)) {
        card_t *c = &cards[n];
        if (!strncmp(line, "broken", 6)) { fclose(f); return -1; }
        memset(c, 0, sizeof *c);
        line[strcspn(line, "\n")] = 0;
        char *rest = line, *part[7] = {0};
        for (int i = 0; i < 7; i++) part[i] = strsep(&rest, ";");
        if (!part[6]) continue;
        strncpy(c->uuid, part[0], 79); strncpy(c->name, part[1], 79);
        c->total = atol(part[2]); c->used = atol(part[3]); c->util = atoi(part[4]);
        strncpy(c->procs, part[5], 255); strncpy(c->state, part[6], 15);
        n++;
    }
    fclose(f);
    return n;
}

static card_t *card(void *handle) {
    int i = (int)(long)handle - 1;
    return load() > i && strcmp(cards[i].state, "lost") ? &cards[i] : NULL;
}

enum { OK = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, LOST = 15, UNKNOWN = 999 };

int nvmlInit_v2(void) { return load() < 0 ? UNKNOWN : OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int e) { return e == LOST ? "GPU is lost" : "error"; }
int nvmlDeviceGetCount_v2(unsigned *n) { int k = load(); if (k < 0) return UNKNOWN; *n = k; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)(long)(i + 1); return card(*h) ? OK : LOST; }
int nvmlDeviceGetUUID(void *h, char *out, unsigned len) {
    card_t *c = card(h); if (!c) return LOST; strncpy(out, c->uuid, len); return OK;
}
int nvmlDeviceGetName(void *h, char *out, unsigned len) {
    card_t *c = card(h); if (!c) return LOST; strncpy(out, c->name, len); return OK;
}
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_t;
int nvmlDeviceGetMemoryInfo_v2(void *h, memory_t *m) {
    card_t *c = card(h); if (!c) return LOST;
    m->total = (unsigned long long)c->total << 20; m->used = (unsigned long long)c->used << 20;
    m->reserved = 0; m->free = m->total - m->used;
    return OK;
}
typedef struct { unsigned gpu, memory; } util_t;
int nvmlDeviceGetUtilizationRates(void *h, util_t *u) {
    card_t *c = card(h); if (!c) return LOST; if (c->util < 0) return NOT_SUPPORTED;
    u->gpu = c->util; u->memory = 0; return OK;
}
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process_t;
int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *count, process_t *out) {
    card_t *c = card(h); if (!c) return LOST;
    if (!strcmp(c->procs, "unknown")) return NOT_SUPPORTED;
    char copy[256]; strcpy(copy, c->procs);
    unsigned n = 0, room = *count; char *save, *p = strtok_r(copy, ",", &save);
    for (; p; p = strtok_r(NULL, ",", &save), n++) {
        unsigned pid; long mib;
        if (!out || n >= room || sscanf(p, "%u=%ld", &pid, &mib) != 2) continue;
        out[n] = (process_t){ pid, mib < 0 ? ~0ULL : (unsigned long long)mib << 20, ~0u, ~0u };
    }
    *count = n;
    return !out && n ? INSUFFICIENT_SIZE : OK;
}

/* Each wait tells the first card whose state is xid<number>, again and again. */
typedef struct { void *device; unsigned long long type, data; unsigned gi, ci; } event_t;
int nvmlEventSetCreate(void **set) { *set = (void *)1; return OK; }
int nvmlEventSetFree(void *set) { return OK; }
int nvmlDeviceRegisterEvents(void *h, unsigned long long types, void *set) { return card(h) ? OK : LOST; }
int nvmlEventSetWait_v2(void *set, event_t *event, unsigned timeout_ms) {
    usleep(20 * 1000);
    int n = load();
    for (int i = 0; i < n; i++) {
        if (strncmp(cards[i].state, "xid", 3)) continue;
        *event = (event_t){ (void *)(long)(i + 1), 8, atol(cards[i].state + 3), ~0u, ~0u };
        return OK;
    }
    return 10; /* timeout */
}
