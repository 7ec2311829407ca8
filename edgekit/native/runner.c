/* The runtime of a device without Python: one question on the command line, answered in JSON lines on stdout.

     edgekit-runner describe THREADS MODEL                    what the file's inputs and outputs are
     edgekit-runner run      THREADS MODEL INPUT OUTPUT       the inputs of one run after the other; the outputs likewise
     edgekit-runner bench    THREADS WARMUP RUNS BLOCK (MODEL INPUT)…    time models in turns, in blocks of runs

   The last line has the event "result", or "error" with a type and a message, as those of edgekit.runtime have. INPUT and
   OUTPUT hold raw tensors in the file's own order; quantization and names are the host's work. A timed run copies the
   inputs in, runs, and copies the outputs out.

   It stands on the C API that libLiteRt.so of ai-edge-litert 2.3 exports (github.com/google-ai-edge/LiteRT, litert/c). What
   it uses of it is declared here by hand, and found when it starts, so that it is built without LiteRT. */

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_TENSORS = 64, MOST_MODELS = 64, MOST_DIMENSIONS = 8 };
enum { CPU = 1, READ = 0, WRITE = 1 }; /* kLiteRtHwAcceleratorCpu, kLiteRtTensorBufferLockModeRead, …Write */

typedef void *Handle; /* LiteRT's objects are opaque pointers */
typedef struct {
    unsigned rank : 7, has_strides : 1;
    int32_t dimensions[MOST_DIMENSIONS];
    uint32_t strides[MOST_DIMENSIONS];
} Layout;
typedef struct {
    int32_t element_type;
    Layout layout;
} TensorType;
_Static_assert(sizeof(TensorType) == 72, "as LiteRtRankedTensorType is");
typedef struct {
    int tag;
    struct {
        int type;
        int64_t number;
    } value;
} EnvironmentOption; /* as LiteRtEnvOption is: a tag, and a value of several types */
enum { REGISTERED_ACCELERATORS = 24, LEAST_LOG_SEVERITY = 25, INTEGER = 2, WARNING = 2 }; /* kLiteRtEnvOptionTag…, … */

/* The CPU alone, and in silence: else LiteRT looks for GPUs and NPUs, and says ten lines each time that it starts. */
static const EnvironmentOption ENVIRONMENT[] = {
    {REGISTERED_ACCELERATORS, {INTEGER, CPU}},
    {LEAST_LOG_SEVERITY, {INTEGER, WARNING}},
};

static struct {
    int (*LiteRtCreateEnvironment)(int, const EnvironmentOption *, Handle *);
    int (*LiteRtCreateModelFromFile)(Handle, const char *, Handle *);
    int (*LiteRtCreateOptions)(Handle *);
    int (*LiteRtSetOptionsHardwareAccelerators)(Handle, int);
    int (*LiteRtCreateOpaqueOptions)(const char *, void *, void (*)(void *), Handle *);
    int (*LiteRtAddOpaqueOptions)(Handle, Handle);
    int (*LiteRtCreateCompiledModel)(Handle, Handle, Handle, Handle *);
    int (*LiteRtGetModelSignature)(Handle, size_t, Handle *);
    int (*LiteRtGetNumSignatureInputs)(Handle, size_t *);
    int (*LiteRtGetNumSignatureOutputs)(Handle, size_t *);
    int (*LiteRtGetSignatureInputTensorByIndex)(Handle, size_t, Handle *);
    int (*LiteRtGetSignatureOutputTensorByIndex)(Handle, size_t, Handle *);
    int (*LiteRtGetTensorName)(Handle, const char **);
    int (*LiteRtGetRankedTensorType)(Handle, TensorType *);
    int (*LiteRtGetCompiledModelInputBufferRequirements)(Handle, size_t, size_t, Handle *);
    int (*LiteRtGetCompiledModelOutputBufferRequirements)(Handle, size_t, size_t, Handle *);
    int (*LiteRtCreateManagedTensorBufferFromRequirements)(Handle, const TensorType *, Handle, Handle *);
    int (*LiteRtGetTensorBufferPackedSize)(Handle, size_t *);
    int (*LiteRtLockTensorBuffer)(Handle, void **, int);
    int (*LiteRtUnlockTensorBuffer)(Handle);
    int (*LiteRtRunCompiledModel)(Handle, size_t, size_t, Handle *, size_t, Handle *);
    int (*LiteRtCompiledModelIsFullyAccelerated)(Handle, bool *);
} api;

static const char *const NAMES[] = { /* in the order of the struct */
    "LiteRtCreateEnvironment", "LiteRtCreateModelFromFile", "LiteRtCreateOptions", "LiteRtSetOptionsHardwareAccelerators",
    "LiteRtCreateOpaqueOptions", "LiteRtAddOpaqueOptions", "LiteRtCreateCompiledModel", "LiteRtGetModelSignature",
    "LiteRtGetNumSignatureInputs", "LiteRtGetNumSignatureOutputs", "LiteRtGetSignatureInputTensorByIndex",
    "LiteRtGetSignatureOutputTensorByIndex", "LiteRtGetTensorName", "LiteRtGetRankedTensorType",
    "LiteRtGetCompiledModelInputBufferRequirements", "LiteRtGetCompiledModelOutputBufferRequirements",
    "LiteRtCreateManagedTensorBufferFromRequirements", "LiteRtGetTensorBufferPackedSize", "LiteRtLockTensorBuffer",
    "LiteRtUnlockTensorBuffer", "LiteRtRunCompiledModel", "LiteRtCompiledModelIsFullyAccelerated",
};
_Static_assert(sizeof api == sizeof NAMES, "a name for each function");

typedef struct {
    const char *name;
    TensorType type;
    Handle buffer;
    size_t bytes;
    char *content; /* of the tensor, on our side */
} Tensor;

typedef struct {
    const char *path;
    Handle compiled;
    size_t inputs, outputs;
    Tensor in[MOST_TENSORS], out[MOST_TENSORS];
    Handle in_buffers[MOST_TENSORS], out_buffers[MOST_TENSORS];
    int64_t *samples_ns;
} Model;

static void say_string(const char *text) {
    putchar('"');
    for (; *text; text++) {
        unsigned char letter = (unsigned char)*text;
        if (letter == '"' || letter == '\\') printf("\\%c", letter);
        else if (letter < 0x20) printf("\\u%04x", letter);
        else putchar(letter);
    }
    putchar('"');
}

__attribute__((noreturn, format(printf, 2, 3))) static void fail(const char *type, const char *format, ...) {
    char message[1024];
    va_list words;
    va_start(words, format);
    vsnprintf(message, sizeof message, format, words);
    va_end(words);
    printf("{\"event\": \"error\", \"type\": \"%s\", \"message\": ", type);
    say_string(message);
    puts("}");
    exit(2);
}

static void check(int status, const char *path, const char *what) {
    if (status != 0) fail("EngineError", "%s: LiteRT cannot %s (status %d)", path, what, status);
}

static void find_litert(void) {
    void *library = dlopen("libLiteRt.so", RTLD_NOW);
    if (library == NULL) fail("EngineError", "libLiteRt.so cannot be loaded: %s", dlerror());
    void **slot = (void **)&api;
    for (size_t index = 0; index < sizeof NAMES / sizeof *NAMES; index++) {
        slot[index] = dlsym(library, NAMES[index]);
        if (slot[index] == NULL) fail("EngineError", "libLiteRt.so has no %s: take that of ai-edge-litert 2.3", NAMES[index]);
    }
}

static Handle options_for(int threads, const char *path) {
    Handle options, cpu;
    char *settings = malloc(64);
    if (settings == NULL) fail("EngineError", "no memory");
    snprintf(settings, 64, "num_threads = %d\n", threads);
    check(api.LiteRtCreateOptions(&options), path, "make options");
    check(api.LiteRtSetOptionsHardwareAccelerators(options, CPU), path, "choose the CPU");
    check(api.LiteRtCreateOpaqueOptions("xnnpack", settings, free, &cpu), path, "make options for the CPU");
    check(api.LiteRtAddOpaqueOptions(options, cpu), path, "set the number of threads");
    return options;
}

static void open_tensor(Handle environment, const char *path, Handle tensor, Handle requirements, Tensor *opened) {
    check(api.LiteRtGetTensorName(tensor, &opened->name), path, "name a tensor");
    check(api.LiteRtGetRankedTensorType(tensor, &opened->type), path, "give a tensor's type");
    check(api.LiteRtCreateManagedTensorBufferFromRequirements(environment, &opened->type, requirements, &opened->buffer),
          path, "make a buffer");
    check(api.LiteRtGetTensorBufferPackedSize(opened->buffer, &opened->bytes), path, "size a buffer");
    opened->content = calloc(1, opened->bytes + 1);
    if (opened->content == NULL) fail("EngineError", "%s: no memory for '%s'", path, opened->name);
}

static void open_tensors(Handle environment, Handle signature, Model *model) {
    Handle tensor, needs;
    for (size_t index = 0; index < model->inputs; index++) {
        check(api.LiteRtGetSignatureInputTensorByIndex(signature, index, &tensor), model->path, "give an input");
        check(api.LiteRtGetCompiledModelInputBufferRequirements(model->compiled, 0, index, &needs), model->path, "size an input");
        open_tensor(environment, model->path, tensor, needs, &model->in[index]);
        model->in_buffers[index] = model->in[index].buffer;
    }
    for (size_t index = 0; index < model->outputs; index++) {
        check(api.LiteRtGetSignatureOutputTensorByIndex(signature, index, &tensor), model->path, "give an output");
        check(api.LiteRtGetCompiledModelOutputBufferRequirements(model->compiled, 0, index, &needs), model->path, "size an output");
        open_tensor(environment, model->path, tensor, needs, &model->out[index]);
        model->out_buffers[index] = model->out[index].buffer;
    }
}

static void open_model(Handle environment, const char *path, int threads, Model *model) {
    Handle file, signature;
    model->path = path;
    check(api.LiteRtCreateModelFromFile(environment, path, &file), path, "read the model");
    check(api.LiteRtCreateCompiledModel(environment, file, options_for(threads, path), &model->compiled), path, "open the model");
    check(api.LiteRtGetModelSignature(file, 0, &signature), path, "give a signature");
    check(api.LiteRtGetNumSignatureInputs(signature, &model->inputs), path, "count inputs");
    check(api.LiteRtGetNumSignatureOutputs(signature, &model->outputs), path, "count outputs");
    if (model->inputs > MOST_TENSORS || model->outputs > MOST_TENSORS)
        fail("EngineError", "%s has %zu inputs and %zu outputs, this runner takes %d", path, model->inputs, model->outputs, MOST_TENSORS);
    open_tensors(environment, signature, model);
}

static void copy(Tensor *tensor, int mode, const char *path) {
    void *there;
    check(api.LiteRtLockTensorBuffer(tensor->buffer, &there, mode), path, "lock a buffer");
    if (mode == WRITE) memcpy(there, tensor->content, tensor->bytes);
    else memcpy(tensor->content, there, tensor->bytes);
    check(api.LiteRtUnlockTensorBuffer(tensor->buffer), path, "unlock a buffer");
}

static void run_once(Model *model) {
    for (size_t index = 0; index < model->inputs; index++) copy(&model->in[index], WRITE, model->path);
    check(api.LiteRtRunCompiledModel(model->compiled, 0, model->inputs, model->in_buffers, model->outputs, model->out_buffers),
          model->path, "run the model");
    for (size_t index = 0; index < model->outputs; index++) copy(&model->out[index], READ, model->path);
}

/* False at the file's end; a part of a run is an error. */
static bool read_inputs(FILE *file, const char *path, Model *model) {
    for (size_t index = 0; index < model->inputs; index++) {
        size_t got = fread(model->in[index].content, 1, model->in[index].bytes, file);
        if (got == 0 && index == 0 && feof(file)) return false;
        if (got != model->in[index].bytes)
            fail("DataError", "%s ends inside of '%s': %zu of %zu bytes", path, model->in[index].name, got, model->in[index].bytes);
    }
    return true;
}

static FILE *opened(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    if (file == NULL) fail("DataError", "%s cannot be opened: %s", path, strerror(errno));
    return file;
}

static void say_tensors(const char *side, const Tensor *tensors, size_t count) {
    printf(", \"%s\": [", side);
    for (size_t index = 0; index < count; index++) {
        const TensorType *type = &tensors[index].type;
        printf("%s{\"name\": ", index ? ", " : "");
        say_string(tensors[index].name);
        printf(", \"type\": %d, \"bytes\": %zu, \"shape\": [", type->element_type, tensors[index].bytes);
        for (unsigned axis = 0; axis < type->layout.rank; axis++)
            printf("%s%d", axis ? ", " : "", type->layout.dimensions[axis]);
        printf("]}");
    }
    putchar(']');
}

static void say_model(const Model *model) {
    bool accelerated = false;
    check(api.LiteRtCompiledModelIsFullyAccelerated(model->compiled, &accelerated), model->path, "say what runs it");
    printf("{\"event\": \"result\", \"accelerated\": %s", accelerated ? "true" : "false");
    say_tensors("inputs", model->in, model->inputs);
    say_tensors("outputs", model->out, model->outputs);
    puts("}");
}

static void run_all(Model *model, const char *from, const char *to) {
    FILE *inputs = opened(from, "rb"), *outputs = opened(to, "wb");
    size_t runs = 0;
    for (; read_inputs(inputs, from, model); runs++) {
        run_once(model);
        for (size_t index = 0; index < model->outputs; index++) {
            const Tensor *tensor = &model->out[index];
            if (fwrite(tensor->content, 1, tensor->bytes, outputs) != tensor->bytes)
                fail("OutputError", "%s cannot be written: %s", to, strerror(errno));
        }
    }
    if (fclose(outputs) != 0) fail("OutputError", "%s cannot be written: %s", to, strerror(errno));
    printf("{\"event\": \"result\", \"runs\": %zu}\n", runs);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* As edgekit.runtime.timing does: where several models take turns, each block begins with an untimed run. */
static void time_block(Model *model, int from, int to, bool untimed) {
    if (untimed) run_once(model);
    for (int run = from; run < to; run++) {
        int64_t start = now_ns();
        run_once(model);
        model->samples_ns[run] = now_ns() - start;
    }
}

static void say_samples(const Model *models, int count, int runs) {
    printf("{\"event\": \"result\", \"samples_ns\": [");
    for (int index = 0; index < count; index++) {
        printf("%s[", index ? ", " : "");
        for (int run = 0; run < runs; run++) printf("%s%lld", run ? ", " : "", (long long)models[index].samples_ns[run]);
        putchar(']');
    }
    puts("]}");
}

/* While a bench lasts, nothing else is said. */
static void say_begun(int models, int warmup, int runs) {
    printf("{\"event\": \"progress\", \"message\": \"measuring %d model%s: %d warm-up and %d timed runs each\"}\n",
           models, models == 1 ? "" : "s", warmup, runs);
    fflush(stdout);
}

static void bench(Handle environment, int threads, char **words, int count) {
    static Model models[MOST_MODELS];
    int warmup = atoi(words[0]), runs = atoi(words[1]), block = atoi(words[2]), models_given = (count - 3) / 2;
    if (runs < 1 || warmup < 0 || block < 1 || models_given > MOST_MODELS)
        fail("ConfigError", "warmup %d, runs %d, block %d, %d models", warmup, runs, block, models_given);
    say_begun(models_given, warmup, runs);
    for (int index = 0; index < models_given; index++) {
        Model *model = &models[index];
        FILE *inputs = opened(words[4 + 2 * index], "rb");
        open_model(environment, words[3 + 2 * index], threads, model);
        if (!read_inputs(inputs, words[4 + 2 * index], model)) fail("DataError", "%s is empty", words[4 + 2 * index]);
        fclose(inputs);
        model->samples_ns = calloc((size_t)runs, sizeof *model->samples_ns);
        if (model->samples_ns == NULL) fail("EngineError", "no memory for %d samples", runs);
        for (int run = 0; run < warmup; run++) run_once(model);
    }
    for (int done = 0; done < runs; done += block)
        for (int index = 0; index < models_given; index++)
            time_block(&models[index], done, done + block < runs ? done + block : runs, models_given > 1);
    say_samples(models, models_given, runs);
}

int main(int count, char **words) {
    static Model model;
    const char *verb = count > 3 ? words[1] : "";
    int threads = count > 3 ? atoi(words[2]) : 0;
    bool describes = count == 4 && !strcmp(verb, "describe"), runs = count == 6 && !strcmp(verb, "run");
    bool times = count > 7 && count % 2 == 0 && !strcmp(verb, "bench");
    if (threads < 1 || !(describes || runs || times)) fail("ConfigError", "edgekit-runner: see the head of runner.c");
    Handle environment;
    find_litert();
    check(api.LiteRtCreateEnvironment(sizeof ENVIRONMENT / sizeof *ENVIRONMENT, ENVIRONMENT, &environment), words[3], "start");
    if (times) {
        bench(environment, threads, words + 3, count - 3);
        return 0;
    }
    open_model(environment, words[3], threads, &model);
    if (describes) say_model(&model);
    else run_all(&model, words[4], words[5]);
    return 0;
}
