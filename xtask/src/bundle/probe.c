/* Asks the engine of a library folder what it is, and on demand compiles an empty module. */
#include <stdio.h>
#include <string.h>
#include <wasmedge/wasmedge.h>

int main(int argc, char **argv) {
    static const uint8_t module[] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    if (argc == 2 && strcmp(argv[1], "version") == 0) {
        puts(WasmEdge_VersionGet());
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "compile") == 0) {
        WasmEdge_CompilerContext *compiler = WasmEdge_CompilerCreate(NULL);
        WasmEdge_Result result = WasmEdge_CompilerCompileFromBytes(
            compiler, WasmEdge_BytesWrap(module, sizeof module), argv[2]);
        WasmEdge_CompilerDelete(compiler);
        puts(WasmEdge_ResultGetMessage(result));
        return WasmEdge_ResultOK(result) ? 0 : 1;
    }
    return 2;
}
