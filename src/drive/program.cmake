# The program `coppice`: what needs MPI, HDF5 and libfyaml, and the command line.
coppice_module(workload USES coppice_base)
coppice_module(record USES coppice_base hdf5::hdf5)
coppice_module(config USES coppice_base PkgConfig::FYAML)
coppice_module(transport USES coppice_base MPI::MPI_C)
coppice_module(drive USES coppice_api coppice_tokenizer coppice_core coppice_model coppice_workload
               coppice_record coppice_config coppice_device coppice_transport)

# Provenance of the build, refreshed by every build.
set(build_info ${CMAKE_BINARY_DIR}/generated/build_info.h)
string(TOUPPER "${CMAKE_BUILD_TYPE}" build_type)
string(STRIP "${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_${build_type}}" build_flags)
add_custom_target(coppice_build_info BYPRODUCTS ${build_info}
    COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${CMAKE_SOURCE_DIR} -DOUTPUT=${build_info}
            -DCOP_VERSION=${PROJECT_VERSION} "-DCOP_FLAGS=${build_flags}"
            "-DCOP_COMPILER=${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}"
            -P ${CMAKE_SOURCE_DIR}/src/drive/build_info.cmake
    VERBATIM)
add_dependencies(coppice_drive coppice_build_info)
target_include_directories(coppice_drive PRIVATE ${CMAKE_BINARY_DIR}/generated)

add_executable(coppice src/main.c)
target_link_libraries(coppice PRIVATE coppice_drive)
