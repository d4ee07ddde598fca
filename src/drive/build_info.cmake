# Run at every build: writes build_info.h when the revision has changed.
execute_process(COMMAND git describe --always --dirty --abbrev=12
                WORKING_DIRECTORY ${SOURCE_DIR}
                OUTPUT_VARIABLE COP_REVISION ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT COP_REVISION)
    set(COP_REVISION "unknown")
endif()
configure_file(${SOURCE_DIR}/src/drive/build_info.h.in ${OUTPUT} @ONLY)
